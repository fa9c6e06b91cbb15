package collector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/netlinklist"
)

// netlinkConn is a netlink socket that sees of a dump also how it ends. The
// library keeps that message for itself, which alone tells of a change after the
// last object was written, or because of which none is left to be written
// (netlink_dump_done calls nl_dump_check_consistent, too).
type netlinkConn struct{ *netlink.Conn }

// dialNetlink opens a netlink socket in the calling thread's namespace.
func dialNetlink(protocol int) (*netlinkConn, error) {
	conn, err := netlink.Dial(protocol, nil)
	if err != nil {
		return nil, err
	}
	// Large dumps come in messages of up to 32 KiB, many at a time.
	_ = conn.SetReadBuffer(1 << 20)
	return &netlinkConn{conn}, nil
}

// dumpReply is what came of a request for all objects of a kind.
type dumpReply struct {
	bodies [][]byte
	// interrupted says that something changed while it was written.
	interrupted bool
	done        bool
}

// dumper is the part of netlinkConn that a dump needs.
type dumper interface {
	dump(netlink.Message) (*dumpReply, error)
}

func (c *netlinkConn) dump(request netlink.Message) (*dumpReply, error) {
	sent, err := c.Send(request)
	if err != nil {
		return nil, err
	}
	return c.answer(sent.Header.Sequence)
}

// answer reads what comes of the request with a sequence number.
func (c *netlinkConn) answer(sequence uint32) (*dumpReply, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	reply := new(dumpReply)
	for !reply.done {
		data, err := receive(raw)
		if err != nil {
			return nil, os.NewSyscallError("receive", err)
		}
		if err := reply.add(data, sequence); err != nil {
			return nil, err
		}
	}
	return reply, nil
}

// receive waits for a datagram, and takes it whole however large it is.
func receive(conn syscall.RawConn) (data []byte, err error) {
	failed := conn.Read(func(fd uintptr) bool {
		var n int
		for {
			// MSG_TRUNC has the whole size told.
			if n, _, err = unix.Recvfrom(int(fd), nil, unix.MSG_PEEK|unix.MSG_TRUNC); err == nil {
				data = make([]byte, n)
				n, _, err = unix.Recvfrom(int(fd), data, 0)
			}
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		if err == nil {
			data = data[:n]
		}
		return true
	})
	return data, errors.Join(failed, err)
}

// add takes the messages of a datagram. Those of other requests are what is left
// of a dump that ended with an error.
func (r *dumpReply) add(data []byte, sequence uint32) error {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return fmt.Errorf("netlink message: %w", err)
	}
	for _, m := range messages {
		if m.Header.Seq != sequence {
			continue
		}
		r.interrupted = r.interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
		switch {
		case m.Header.Type == unix.NLMSG_ERROR, m.Header.Type == unix.NLMSG_DONE:
			r.done = true
			if len(m.Data) < 4 {
				return nil
			}
			switch code := -int32(binary.NativeEndian.Uint32(m.Data)); unix.Errno(code) {
			case 0:
			case unix.EINTR: // what the dump was at is no longer there
				r.interrupted = true
			default:
				return unix.Errno(code)
			}
			return nil
		default:
			r.bodies = append(r.bodies, m.Data)
			// Not NLM_F_MULTI: this is the only message of the answer.
			r.done = m.Header.Flags&unix.NLM_F_MULTI == 0
		}
	}
	return nil
}

// dump asks for all objects of a kind until nothing changed while they were
// written, and returns the body of each message.
func dump(conn dumper, request uint16, body []byte) ([][]byte, error) {
	message := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(request), Flags: netlink.Request | netlink.Dump},
		Data:   body,
	}
	for range netlinklist.Attempts {
		reply, err := conn.dump(message)
		if err != nil {
			return nil, notSupported(err)
		}
		if !reply.interrupted {
			return reply.bodies, nil
		}
	}
	return nil, netlinklist.ErrInterrupted
}

// listOf dumps the objects of a kind, and decodes each.
func listOf[T any](conn dumper, request uint16, body []byte, decode func(body []byte) (T, error)) ([]T, error) {
	bodies, err := dump(conn, request, body)
	if err != nil {
		return nil, err
	}
	var list []T
	for _, body := range bodies {
		object, err := decode(body)
		if err != nil {
			return nil, err
		}
		list = append(list, object)
	}
	return list, nil
}

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
