package lab

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if IsListener() {
		fmt.Fprintln(os.Stderr, ServeListener())
		os.Exit(1)
	}
	if os.Getenv(upAndHang) != "" {
		hang()
		os.Exit(1)
	}
	os.Exit(m.Run())
}
