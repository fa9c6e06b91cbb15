package links

import (
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// tables are the rules that arptables and ebtables load: of nf_tables, some with
// matches and targets of xtables.
var tables = []scenario{
	{name: "arptables drops requests by source", only: netstack.IPv4, setup: pair + `
		b arptables -A INPUT -s 10.9.1.1 -i eth0 --opcode Request -j DROP`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "arptables drops requests of another source", only: netstack.IPv4, setup: pair + `
		b arptables -A INPUT -s 10.9.1.9 -j DROP`, to: "1.2"},
	{name: "arptables drops what the host asks", only: netstack.IPv4, setup: pair + `
		a arptables -A OUTPUT -d 10.9.1.2 -o eth0 -j DROP`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "arptables drops by hardware address", only: netstack.IPv4, setup: pair + `
		mac MACA a:eth0
		b arptables -A INPUT --source-mac MACA -j DROP`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "a policy of arptables", only: netstack.IPv4, setup: pair + `
		b arptables -P INPUT DROP`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "arptables rewrites the request", only: netstack.IPv4, opaque: true, setup: pair + `
		a arptables -A OUTPUT -d 10.9.1.2 -j mangle --mangle-ip-d 10.9.1.7`, to: "1.2", reason: verdict.UnmodelledRule},
	{name: "a policy of ebtables", only: netstack.IPv4, setup: onBridge + `
		n ebtables -P FORWARD DROP`, to: "0.2", reason: verdict.NetfilterDrop},
	{name: "ebtables drops between ports", only: netstack.IPv4, setup: onBridge + `
		n ebtables -A FORWARD -i pa -o pb -j DROP`, to: "0.2", reason: verdict.NetfilterDrop},
	{name: "ebtables drops between other ports", only: netstack.IPv4, setup: onBridge + `
		n ebtables -A FORWARD -i pb -o pb -j DROP`, to: "0.2"},
	{name: "ebtables drops by hardware address", only: netstack.IPv4, setup: onBridge + `
		mac MACA a:eth0
		n ebtables -A FORWARD -s MACA -j DROP`, to: "0.2", reason: verdict.NetfilterDrop},
	{name: "a user chain of ebtables", only: netstack.IPv4, setup: onBridge + `
		n ebtables -N own
		n ebtables -P own RETURN
		n ebtables -A own -p IPv4 -j DROP
		n ebtables -A FORWARD -j own`, to: "0.2", reason: verdict.NetfilterDrop},
	{name: "ebtables drops a port", only: netstack.IPv4, opaque: true, protocols: []string{"tcp"}, setup: onBridge + `
		n ebtables -A FORWARD -p IPv4 --ip-dst 10.9.0.2 --ip-proto tcp --ip-dport 80 -j DROP`, to: "0.2", reason: verdict.UnmodelledRule},
	{name: "ebtables looks at the mark", only: netstack.IPv4, opaque: true, setup: onBridge + `
		n ebtables -A FORWARD --mark 1 -j DROP`, to: "0.2", reason: verdict.UnmodelledRule},
	{name: "ebtables drops ARP", only: netstack.IPv4, opaque: true, setup: onBridge + `
		n ebtables -A FORWARD -p ARP --arp-op Request -j DROP`, to: "0.2", reason: verdict.UnmodelledRule},
	{name: "ebtables turns frames to another station", only: netstack.IPv4, opaque: true, setup: onBridge + `
		mac MACB b:eth0
		n ebtables -t nat -A PREROUTING -d MACB -j dnat --to-destination 02:00:00:00:00:77`, to: "0.2", reason: verdict.UnmodelledRule},
	{name: "ebtables takes frames for the host", only: netstack.IPv4, opaque: true, setup: onBridge + `
		n ebtables -t nat -A PREROUTING -p IPv4 -j redirect`, to: "0.2", reason: verdict.UnmodelledRule},
}

func TestTables(t *testing.T) { runAll(t, "tb", tables) }
