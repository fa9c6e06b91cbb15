package nftjson

import "encoding/binary"

// Types of objects (NFT_OBJECT_*).
const (
	objectCounter   = 1
	objectQuota     = 2
	objectCTHelper  = 3
	objectLimit     = 4
	objectCTTimeout = 7
	objectSecmark   = 8
	objectCTExpect  = 9
	objectSynproxy  = 10
)

var objectKeywords = map[uint32]string{
	objectCounter: "counter", objectQuota: "quota", objectCTHelper: "ct helper", objectLimit: "limit", objectCTTimeout: "ct timeout",
	objectSecmark: "secmark", objectCTExpect: "ct expectation", objectSynproxy: "synproxy",
}

// objectKeyword is how nft calls a type of objects; "" if it is not understood.
func objectKeyword(kind uint32) string { return objectKeywords[kind] }

// Attributes of objects (NFTA_OBJ_*).
const (
	objTable    = 1
	objName     = 2
	objType     = 3
	objData     = 4
	objHandle   = 6
	objUserData = 8
)

func (w *writer) object(t *table, a *attributes) error {
	kind := a.u32(objType)
	keyword := objectKeyword(kind)
	if keyword == "" {
		return unknownf("object of type %d", kind)
	}
	comment, err := commentOf(a[objUserData], "an object")
	if err != nil {
		return err
	}
	w.comma()
	w.only(keyword)
	w.open('{')
	w.text("family", t.familyName())
	w.text("name", a.text(objName))
	w.text("table", t.name)
	w.integer("handle", a.uint(objHandle))
	if comment != "" {
		w.text("comment", comment)
	}
	if err := w.objectData(kind, a[objData]); err != nil {
		return err
	}
	w.closeBoth()
	return nil
}

func (w *writer) objectData(kind uint32, data []byte) error {
	var a attributes
	attributesOf := map[uint32]numbers{
		objectCounter: known(1, 2, 3), objectQuota: known(1, 2, 3, 4), objectCTHelper: known(1, 2, 3), objectLimit: known(1, 2, 3, 4, 5, 6),
		objectCTTimeout: known(1, 2, 3), objectSecmark: known(1), objectCTExpect: known(1, 2, 3, 4, 5), objectSynproxy: known(1, 2, 3),
	}
	if err := a.parse(data, objectKeyword(kind), attributesOf[kind]); err != nil {
		return err
	}
	switch kind {
	case objectCounter:
		w.integer("packets", a.uint(2))
		w.integer("bytes", a.uint(1))
	case objectQuota:
		w.integer("bytes", a.uint(1))
		w.integer("used", a.uint(4))
		w.key("inv")
		w.bool(a.u32(2)&quotaInverted != 0)
	case objectCTHelper:
		w.text("type", a.text(1))
		w.protocol(a.uint(3))
		return w.layer3(a.uint(2))
	case objectCTTimeout:
		w.protocol(a.uint(2))
		if err := w.layer3(a.uint(1)); err != nil {
			return err
		}
		return w.timeouts(a.uint(2), a[3])
	case objectSecmark:
		w.text("context", a.text(1))
	case objectCTExpect:
		w.protocol(a.uint(2))
		w.integer("dport", a.uint(3))
		// This one is in the order of the machine (nft_ct_expect_obj_dump).
		if len(a[4]) != 4 {
			return unknownf("a timeout of %d bytes", len(a[4]))
		}
		w.integer("timeout", uint64(binary.NativeEndian.Uint32(a[4])))
		w.integer("size", a.uint(5))
		return w.layer3(a.uint(1))
	case objectSynproxy:
		w.integer("mss", a.uint(1))
		w.integer("wscale", a.uint(2))
		if flags := synproxyFlags(a.u32(3)); flags != nil {
			w.list("flags", flags)
		}
	case objectLimit:
		l, err := readLimit(&a)
		if err != nil {
			return err
		}
		w.limitObject(&l)
	}
	return nil
}

func (w *writer) limitObject(l *limitOptions) {
	rate, rateUnit := l.amount(l.rate)
	burst, burstUnit := l.amount(l.burst)
	w.integer("rate", rate)
	w.text("per", unitName(l.unit))
	w.inverted(l.inverted)
	if l.bytes {
		w.text("rate_unit", rateUnit)
	}
	if burst != 0 {
		w.integer("burst", burst)
		if l.bytes {
			w.text("burst_unit", burstUnit)
		}
	}
}

func (w *writer) protocol(number uint64) {
	w.key("protocol")
	if name, ok := protocolNames[number]; ok {
		w.string(name)
	} else {
		w.uint(number)
	}
}

func (w *writer) layer3(family uint64) error {
	name := familyNames[uint8(family)]
	if name == "" {
		return unknownf("an object of family %d", family)
	}
	w.text("l3proto", name)
	return nil
}

type timeoutState struct {
	name     string
	standard uint32 // in seconds, that nft does not print
}

// timeoutStates are those of a protocol, from the kernel's attribute 1 on.
var timeoutStates = map[uint64][]timeoutState{
	6: {
		{"syn_sent", 120},
		{"syn_recv", 60},
		{"established", 432000},
		{"fin_wait", 120},
		{"close_wait", 60},
		{"last_ack", 30},
		{"time_wait", 120},
		{"close", 10},
		{"syn_sent2", 120},
		{"retrans", 300},
		{"unack", 300},
	},
	17: {{"unreplied", 30}, {"replied", 180}},
}

func (w *writer) timeouts(protocol uint64, data []byte) error {
	states := timeoutStates[protocol]
	if states == nil {
		return unknownf("timeouts of protocol %d", protocol)
	}
	var a attributes
	if err := a.parse(data, "ct timeout", numbers(1<<(len(states)+1)-2)); err != nil {
		return err
	}
	w.key("policy")
	w.open('{')
	empty := true
	for i, s := range states {
		if v := a.u32(i + 1); a[i+1] != nil && v != s.standard {
			w.integer(s.name, uint64(v))
			empty = false
		}
	}
	w.close('}')
	if empty {
		w.out = append(w.out[:len(w.out)-2], "null"...)
	}
	return nil
}

// commentOf is the comment in what nft keeps with an object.
func commentOf(data []byte, what string, others ...byte) (string, error) {
	comment := ""
	err := userData(data, what, func(kind byte, value []byte) error {
		if kind == 0 {
			comment = cString(value)
			return nil
		}
		for _, o := range others {
			if kind == o {
				return nil
			}
		}
		return unknownf("user data %d of %s", kind, what)
	})
	return comment, err
}
