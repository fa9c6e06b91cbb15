package proxyrules

import (
	"testing"

	"github.com/plumbline-net/plumbline/internal/nftjson/nftcheck"
)

func TestTheKernelsRulesAreReadOverNetlinkAsNftPrintsThem(t *testing.T) {
	nftcheck.Namespace(t)
	if err := nftcheck.Load(string((&Spec{Services: 50, Endpoints: 3, NodePortEvery: 5, Idle: 3}).NFTables())); err != nil {
		t.Fatal(err)
	}
	if diff, err := nftcheck.Difference(t); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}
