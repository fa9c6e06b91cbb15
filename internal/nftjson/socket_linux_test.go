package nftjson

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func netlinkMessage(kind, flags uint16, sequence uint32, body ...byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, sequence)
	b = binary.NativeEndian.AppendUint32(b, 0)
	return append(b, body...)
}

func code(errno int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(-errno)) }

func TestMessagesOfADump(t *testing.T) {
	const multi, seven = unix.NLM_F_MULTI, 7
	object := netlinkMessage(0xa00, multi, seven, 2, 0, 0, 9, 'x')
	padded := append(slices.Clone(object), 0, 0, 0)
	done := netlinkMessage(unix.NLMSG_DONE, multi, seven, code(0)...)
	for _, c := range []struct {
		name string
		data []byte
		read int
		done bool
		err  string
	}{
		{"two objects, and more to come", slices.Concat(padded, object), 2, false, ""},
		{"the last object", slices.Concat(padded, done), 1, true, ""},
		{"nothing", done, 0, true, ""},
		{"a change while it was written", slices.Concat(padded, netlinkMessage(0xa00, multi|unix.NLM_F_DUMP_INTR, seven, 2, 0, 0, 9)), 1, true, errInterrupted.Error()},
		{"a change that ended it", netlinkMessage(unix.NLMSG_DONE, multi, seven, code(int32(unix.EINTR))...), 0, true, errInterrupted.Error()},
		{"a set that is gone", netlinkMessage(unix.NLMSG_ERROR, 0, seven, code(int32(unix.ENOENT))...), 0, true, "no such file or directory"},
		{"an answer to something else", netlinkMessage(0xa00, multi, 6, 2, 0, 0, 9), 0, true, "netlink message 6, not 7"},
		{"a message that was cut off", object[:len(object)-1], 0, true, "netlink message of 21 bytes in 20"},
		{"less than a header", object[:9], 0, true, "netlink message of 9 bytes"},
		{"less than the header of nftables", netlinkMessage(0xa00, multi, seven, 2), 0, true, "netlink message of 1 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := 0
			done, err := (&socket{sequence: seven}).messages(c.data, func(family uint8, _ []byte) error {
				if read++; family != 2 {
					t.Errorf("family %d", family)
				}
				return nil
			})
			text := ""
			if err != nil {
				text = err.Error()
			}
			if read != c.read || done != c.done || text != c.err {
				t.Errorf("got %d objects, done %v, error %q", read, done, text)
			}
			if c.err == errInterrupted.Error() && !errors.Is(err, errInterrupted) {
				t.Errorf("%v is not to be tried again", err)
			}
		})
	}
}
