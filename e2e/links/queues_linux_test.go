package links

import (
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// queued are packets that have room in a queue and do not get through it.
var queued = []scenario{
	{name: "a blackhole", setup: pair + `
		b tc qdisc add dev eth0 root blackhole`, to: "1.2", reason: verdict.TCDrop},
	{name: "a blackhole, and a neighbour that is known", setup: known + `
		a tc qdisc add dev eth0 root blackhole`, to: "1.2", reason: verdict.TCDrop},
	{name: "a blackhole on the way back", protocols: connected, setup: known + `
		b tc qdisc add dev eth0 root blackhole`, to: "1.2", reason: verdict.TCDrop},
	{name: "a queue of no packets", setup: known + `
		a tc qdisc add dev eth0 root pfifo limit 0`, to: "1.2", reason: verdict.TCDrop},
	{name: "a queue of one packet", setup: known + `
		a tc qdisc add dev eth0 root pfifo limit 1`, to: "1.2"},
	{name: "a queue of no bytes", setup: known + `
		a tc qdisc add dev eth0 root bfifo limit 0`, to: "1.2", reason: verdict.TCDrop},
	{name: "a queue of fewer bytes than a full-size packet of the server", protocols: []string{"tcp"}, setup: known + `
		b tc qdisc add dev eth0 root bfifo limit 1000`, to: "1.2", reason: verdict.TCDrop},
	{name: "a burst as long as the MTU, which leaves no room for the header", protocols: []string{"tcp"}, setup: known + `
		b tc qdisc add dev eth0 root tbf rate 8mbit burst 1500 latency 50ms`, to: "1.2", reason: verdict.TCDrop},
	{name: "a burst of a whole frame", setup: known + `
		b tc qdisc add dev eth0 root tbf rate 80mbit burst 1600 latency 50ms`, to: "1.2"},
	{name: "a burst of less than any packet", setup: known + `
		a tc qdisc add dev eth0 root tbf rate 8mbit burst 30 latency 50ms`, to: "1.2", reason: verdict.TCDrop},
	{name: "a limit below the burst", protocols: []string{"tcp"}, setup: known + `
		b tc qdisc add dev eth0 root tbf rate 8mbit burst 2000 limit 1000`, to: "1.2", reason: verdict.TCDrop},
	{name: "a limit of a queue that another one has replaced", setup: known + `
		b tc qdisc add dev eth0 root handle 1: tbf rate 8mbit burst 2000 limit 20
		b tc qdisc add dev eth0 parent 1:1 handle 2: bfifo limit 10000`, to: "1.2"},
	{name: "a class takes all", setup: known + `
		a tc qdisc add dev eth0 root handle 1: htb default 1
		a tc class add dev eth0 parent 1: classid 1:1 htb rate 100mbit`, to: "1.2"},
	{name: "some class drops all: whether packets come to it is not known", opaque: true, setup: known + `
		a tc qdisc add dev eth0 root handle 1: htb default 1
		a tc class add dev eth0 parent 1: classid 1:1 htb rate 100mbit
		a tc qdisc add dev eth0 parent 1:1 handle 2: blackhole`, to: "1.2", reason: verdict.TCDrop},
	{name: "the only class drops all", setup: known + `
		a tc qdisc add dev eth0 root handle 1: tbf rate 8mbit burst 2000 latency 50ms
		a tc qdisc add dev eth0 parent 1:1 handle 2: blackhole`, to: "1.2", reason: verdict.TCDrop},
	{name: "all is lost", needs: []string{"netem"}, setup: known + `
		a tc qdisc add dev eth0 root netem loss 100%`, to: "1.2", reason: verdict.TCDrop},
	{name: "all answers are lost", needs: []string{"netem"}, protocols: connected, setup: known + `
		b tc qdisc add dev eth0 root netem loss 100%`, to: "1.2", reason: verdict.TCDrop},
	{name: "all is late, some twice, some before others", needs: []string{"netem"}, setup: known + `
		a tc qdisc add dev eth0 root netem delay 5ms 2ms duplicate 50% reorder 20%`, to: "1.2"},
	{name: "all is lost in a class of what delays", needs: []string{"netem"}, setup: known + `
		a tc qdisc add dev eth0 root handle 1: netem delay 1ms
		a tc qdisc add dev eth0 parent 1:1 handle 2: blackhole`, to: "1.2", reason: verdict.TCDrop},
	{name: "bits are turned", needs: []string{"netem"}, opaque: true, setup: known + `
		a tc qdisc add dev eth0 root netem corrupt 100%`, to: "1.2", reason: verdict.TCDrop},
	{name: "a model of loss", needs: []string{"netem"}, opaque: true, setup: known + `
		a tc qdisc add dev eth0 root netem loss gemodel 100% 0% 100% 100%`, to: "1.2", reason: verdict.TCDrop},
}

// known is a pair whose neighbours need not be asked for.
const known = pair + introduced

// introduced has both ends of a pair told of each other.
const introduced = `
	settle
	mac MACA a:eth0
	mac MACB b:eth0
	a {ip} neigh replace {1.2} lladdr MACB dev eth0 nud permanent
	b {ip} neigh replace {1.1} lladdr MACA dev eth0 nud permanent
`
