package collector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// dumpAttempts bounds how often a dump is repeated that the kernel marked as
// inconsistent, because something changed while it was written.
const dumpAttempts = 5

var errInterrupted = errors.New("the state kept changing while it was being read")

// dialNetlink opens a netlink socket in the calling thread's namespace.
func dialNetlink(protocol int) (*netlink.Conn, error) {
	conn, err := netlink.Dial(protocol, nil)
	if err != nil {
		return nil, err
	}
	// Large dumps come in messages of up to 32 KiB, many at a time.
	_ = conn.SetReadBuffer(1 << 20)
	return conn, nil
}

// executor is the part of netlink.Conn that a dump needs.
type executor interface {
	Execute(netlink.Message) ([]netlink.Message, error)
}

// dump asks for all objects of a kind and passes the body of each message to
// decode; begin is called before each attempt, so that the caller starts anew.
func dump(conn executor, request uint16, body []byte, begin func(), decode func(body []byte) error) error {
	message := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(request), Flags: netlink.Request | netlink.Dump},
		Data:   body,
	}
	for range dumpAttempts {
		replies, err := conn.Execute(message)
		if err != nil {
			return notSupported(err)
		}
		if slices.ContainsFunc(replies, interrupted) {
			continue
		}
		begin()
		for _, reply := range replies {
			if err := decode(reply.Data); err != nil {
				return err
			}
		}
		return nil
	}
	return errInterrupted
}

func interrupted(m netlink.Message) bool { return m.Header.Flags&netlink.DumpInterrupted != 0 }

// notSupported wraps what the kernel says when it does not know a request with
// ErrNotSupported.
func notSupported(err error) error {
	for _, code := range []error{unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.ENOPROTOOPT} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", ErrNotSupported, err)
		}
	}
	return err
}

// attributes calls fn for each attribute after a header of size bytes. Errors
// of the typed readers of the decoder (a wrong length) are returned, too.
func attributes(body []byte, size int, fn func(*netlink.AttributeDecoder) error) error {
	if len(body) < size {
		return fmt.Errorf("netlink message of %d bytes is shorter than its header of %d", len(body), size)
	}
	ad, err := netlink.NewAttributeDecoder(body[size:])
	if err != nil {
		return err
	}
	return each(ad, fn)
}

func each(ad *netlink.AttributeDecoder, fn func(*netlink.AttributeDecoder) error) error {
	for ad.Next() {
		if err := fn(ad); err != nil {
			return err
		}
	}
	return ad.Err()
}

// nested calls fn for each attribute inside the current one.
func nested(ad *netlink.AttributeDecoder, fn func(*netlink.AttributeDecoder)) {
	ad.Nested(func(inner *netlink.AttributeDecoder) error {
		for inner.Next() {
			fn(inner)
		}
		return inner.Err()
	})
}

// addr is the address in an attribute of four or sixteen bytes.
func addr(ad *netlink.AttributeDecoder) netip.Addr {
	a, _ := netip.AddrFromSlice(ad.Bytes())
	return a
}

// specified is a, or nothing for 0.0.0.0 and ::, with which tunnels say "any".
func specified(a netip.Addr) netip.Addr {
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

func bigEndian16(ad *netlink.AttributeDecoder) uint16 {
	if b := ad.Bytes(); len(b) == 2 {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func ifinfomsg(family uint8) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	b[0] = family
	return b
}

// ignoreMissing turns "no such file" into ErrNotSupported: the kernel does not
// have what the file stands for.
func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return err
}
