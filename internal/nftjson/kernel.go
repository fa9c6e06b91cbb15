package nftjson

// Families (NFPROTO_*).
const (
	familyInet   = 1
	familyIPv4   = 2
	familyARP    = 3
	familyNetdev = 5
	familyBridge = 7
	familyIPv6   = 10
)

var familyNames = map[uint8]string{
	familyInet: "inet", familyIPv4: "ip", familyARP: "arp", familyNetdev: "netdev", familyBridge: "bridge", familyIPv6: "ip6",
}

// Keys of meta expressions (enum nft_meta_keys).
const (
	metaProtocol = 1
	metaIIFType  = 8
	metaNFProto  = 15
	metaL4Proto  = 16
)

type template struct {
	name  string
	typ   *dataType
	bits  int
	order byteOrder
}

var metaTemplates = []template{
	{"length", typeInteger, 32, orderHost},
	{"protocol", typeEtherType, 16, orderNetwork},
	{"priority", typeClass, 32, orderHost},
	{"mark", typeMark, 32, orderHost},
	{"iif", typeIfIndex, 32, orderHost},
	{"oif", typeIfIndex, 32, orderHost},
	{"iifname", typeIfName, 128, orderHost},
	{"oifname", typeIfName, 128, orderHost},
	{"iiftype", typeIfType, 16, orderHost},
	{"oiftype", typeIfType, 16, orderHost},
	{"skuid", typeUID, 32, orderHost},
	{"skgid", typeGID, 32, orderHost},
	{"nftrace", typeInteger, 1, orderHost},
	{"rtclassid", typeRealm, 32, orderHost},
	{"secmark", typeInteger, 32, orderHost},
	{"nfproto", typeNFProto, 8, orderHost},
	{"l4proto", typeProtocol, 8, orderHost},
	{"ibrname", typeIfName, 128, orderHost},
	{"obrname", typeIfName, 128, orderHost},
	{"pkttype", typePacket, 8, orderHost},
	{"cpu", typeInteger, 32, orderHost},
	{"iifgroup", typeDevGroup, 32, orderHost},
	{"oifgroup", typeDevGroup, 32, orderHost},
	{"cgroup", typeInteger, 32, orderHost},
	{"random", typeInteger, 32, orderNetwork},
	{"ipsec", typeBoolean, 8, orderHost},
	{"iifkind", typeIfName, 128, orderHost},
	{"oifkind", typeIfName, 128, orderHost},
	{"ibrpvid", typeInteger, 16, orderHost},
	{"ibrvproto", typeEtherType, 16, orderNetwork},
	{"time", typeDate, 64, orderHost},
	{"day", typeDay, 8, orderHost},
	{"hour", typeHour, 32, orderHost},
	{"sdif", typeIfIndex, 32, orderHost},
	{"sdifname", typeIfName, 128, orderHost},
}

// Keys of ct expressions (enum nft_ct_keys).
const (
	ctL3Protocol = 7
	ctSrc        = 8
	ctDst        = 9
	ctProtocol   = 10
	ctProtoSrc   = 11
	ctProtoDst   = 12
	ctEventMask  = 18
	ctSrcIP      = 19
	ctDstIP      = 20
	ctSrcIP6     = 21
	ctDstIP6     = 22
)

var ctTemplates = []template{
	{"state", typeCTState, 32, orderHost},
	{"direction", typeCTDir, 8, orderHost},
	{"status", typeCTStatus, 32, orderHost},
	{"mark", typeMark, 32, orderHost},
	{"secmark", typeInteger, 32, orderHost},
	{"expiration", typeTime, 32, orderHost},
	{"helper", typeString, 128, orderHost},
	{"l3proto", typeNFProto, 8, orderHost},
	{"saddr", typeInvalid, 0, orderNetwork},
	{"daddr", typeInvalid, 0, orderNetwork},
	{"protocol", typeProtocol, 8, orderNetwork},
	{"proto-src", typeInvalid, 16, orderNetwork},
	{"proto-dst", typeInvalid, 16, orderNetwork},
	{"label", typeCTLabel, 128, orderHost},
	{"packets", typeInteger, 64, orderHost},
	{"bytes", typeInteger, 64, orderHost},
	{"avgpkt", typeInteger, 64, orderHost},
	{"zone", typeInteger, 16, orderHost},
	{"event", typeCTEvent, 32, orderHost},
	{"ip saddr", typeIPv4, 32, orderNetwork},
	{"ip daddr", typeIPv4, 32, orderNetwork},
	{"ip6 saddr", typeIPv6, 128, orderNetwork},
	{"ip6 daddr", typeIPv6, 128, orderNetwork},
	{"id", typeInteger, 32, orderNetwork},
}

var routeTemplates = []template{
	{"classid", typeRealm, 32, orderHost},
	{"nexthop", typeIPv4, 32, orderNetwork},
	{"nexthop", typeIPv6, 128, orderNetwork},
	{"mtu", typeInteger, 16, orderHost},
	{"ipsec", typeBoolean, 8, orderHost},
}

var socketTemplates = []template{
	{"transparent", typeInteger, 8, orderHost},
	{"mark", typeMark, 32, orderHost},
	{"wildcard", typeInteger, 8, orderHost},
	{"cgroupv2", typeCgroup, 64, orderHost},
}

var xfrmTemplates = []template{
	{},
	{"daddr", typeIPv4, 32, orderNetwork},
	{"daddr", typeIPv6, 128, orderNetwork},
	{"saddr", typeIPv4, 32, orderNetwork},
	{"saddr", typeIPv6, 128, orderNetwork},
	{"reqid", typeInteger, 32, orderHost},
	{"spi", typeInteger, 32, orderNetwork},
}

// Verdicts: those of nf_tables, and of netfilter.
const (
	verdictContinue = -1
	verdictBreak    = -2
	verdictJump     = -3
	verdictGoto     = -4
	verdictReturn   = -5
	verdictDrop     = 0
	verdictAccept   = 1
	verdictQueue    = 3
)

var verdictNames = map[int32]string{
	verdictContinue: "continue", verdictBreak: "break", verdictJump: "jump", verdictGoto: "goto", verdictReturn: "return",
	verdictDrop: "drop", verdictAccept: "accept", verdictQueue: "queue",
}
