package lab

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	ServeIfListener()
	if os.Getenv(upAndHang) != "" {
		hang()
		os.Exit(1)
	}
	os.Exit(m.Run())
}
