//go:build linux

package main

var sctpFaults = []fault{
	{
		"a COOKIE-ECHO leaves a connection waiting for the cookie", "simulator/netfilter/sctp.go",
		"\t\tc.sctp = sctpCookieEchoed\n", "\t\tc.sctp = sctpCookieWait\n",
	},
	{
		"an INIT-ACK does not answer the INIT", "simulator/netfilter/sctp.go",
		"\t\tc.answeredInit = true\n", "\t\tc.answeredInit = false\n",
	},
	{
		"an INIT-ACK is INVALID", "simulator/netfilter/sctp.go",
		"case p.Chunks == netstack.SCTPInitAck && reply:", "case p.Chunks == netstack.SCTPInitAck && !reply:",
	},
	{
		"an ABORT belongs to no connection", "simulator/netfilter/sctp.go",
		"\tcase p.Chunks&netstack.SCTPAbort != 0:\n", "\tcase p.Chunks&netstack.SCTPAbort != 0:\n\t\treturn false\n",
	},
	{
		"--chunk-types any is taken for all", "simulator/netfilter/sctp.go",
		"m.mode = sctpChunksAny", "m.mode = sctpChunksAll",
	},
	{
		"--chunk-types only is taken for any", "simulator/netfilter/sctp.go",
		"m.mode = sctpChunksOnly", "m.mode = sctpChunksAny",
	},
	{
		"flags of chunks are ignored", "simulator/netfilter/sctp.go",
		"\twant, have := m.flags[chunk], sctpFlagsOf(chunk)\n", "\tvar want, have sctpChunkFlags\n",
	},
	{
		"an inverted --chunk-types is not inverted", "simulator/netfilter/sctp.go",
		"\treturn is(hit == no)\n", "\treturn hit\n",
	},
	{
		"the COOKIE-ACK is not walked", "simulator/sctp.go",
		"\t\tc.data(segment{back: true, length: sctpLength(f, 0), chunks: netstack.SCTPCookieAck}) &&\n", "",
	},
	{
		"data is answered without its acknowledgement", "simulator/sctp.go",
		"netstack.SCTPSack | netstack.SCTPData", "netstack.SCTPData",
	},
	{
		"nobody says that no endpoint of SCTP listens", "simulator/socket.go",
		"\t\treturn end\n\t}\n\tline := socketLine(s)\n", "\t\tif p.Protocol == netstack.ProtoSCTP {\n\t\t\tend.notice = notice{}\n\t\t}\n\t\treturn end\n\t}\n\tline := socketLine(s)\n",
	},
	{
		"translations leave the ports of SCTP alone", "simulator/netfilter/nat.go",
		"netstack.ProtoUDPLite, netstack.ProtoSCTP:\n\t\treturn true", "netstack.ProtoUDPLite:\n\t\treturn true",
	},
	{
		"answers of SCTP are not translated back", "simulator/netfilter/nat.go",
		"\t\treturn c.SrcNAT\n\t}\n\treturn c.DstNAT", "\t\treturn c.SrcNAT\n\t}\n\treturn c.DstNAT && !(reply && c.Original.Protocol == netstack.ProtoSCTP)",
	},
	{
		"--sport of SCTP looks at the destination", "simulator/netfilter/match_basic.go",
		"\tcase portSrc:\n\t\thit = m.contains(x.p.SrcPort)\n",
		"\tcase portSrc:\n\t\thit = m.contains(x.p.SrcPort)\n\t\tif x.p.Protocol == netstack.ProtoSCTP {\n\t\t\thit = m.contains(x.p.DstPort)\n\t\t}\n",
	},
	{
		"sctp chunk of nftables sees the first chunk alone", "simulator/netfilter/nft_sctp.go",
		"x.p.Chunks&(1<<chunk) != 0", "x.p.Chunks&-x.p.Chunks == 1<<chunk",
	},
	{
		"sctp chunk … missing breaks the rule off", "simulator/netfilter/nft_sctp.go",
		"\t\t\treturn word(0) // \"missing\" holds, of other protocols, too\n", "\t\t\treturn u128{}, no\n",
	},
}
