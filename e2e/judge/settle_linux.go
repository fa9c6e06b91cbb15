package judge

import (
	"context"
	"time"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

// settle waits until the kernel has done what it does later than it was told: links that have a carrier are up, IPv6
// addresses are usable and in the local table, and links that have lost their carrier are known for it. That forgets
// their neighbours, and drops what waits for one without a word (linkwatch_do_dev, neigh_carrier_down).
func (b *built) settle(ctx context.Context, ns string, _ []*Element) error {
	return lab.Settle(ctx, b.netns(ns), 10*time.Second)
}
