package nftjson

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errInterrupted is the error of a dump that the kernel marked as inconsistent,
// because the rule set changed while it was written.
var errInterrupted = errors.New("the rule set changed while it was read")

const (
	// receiveSize is more than the kernel puts into one message of a dump, which
	// is at most 32 KiB.
	receiveSize = 1 << 16
	// receiveTimeout is how long the kernel may take for a message.
	receiveTimeout = 20 * time.Second
)

// socket asks for objects of nftables. It reads into one buffer: the rules of a
// large node are 70 MB, of which nothing has to be kept.
type socket struct {
	fd       int
	sequence uint32
	buffer   []byte
}

// openSocket opens a socket in the namespace of the thread.
func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	timeout := unix.NsecToTimeval(receiveTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return &socket{fd: fd, buffer: make([]byte, receiveSize)}, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// dump asks for all objects of a kind, of one family or of all, and passes them
// on as they come: what read keeps of them, it has to copy. After an error, the
// socket is of no more use.
func (s *socket) dump(request uint16, family uint8, body []byte, read func(family uint8, body []byte) error) error {
	s.sequence++
	message := make([]byte, 0, unix.SizeofNlMsghdr+nfgenmsg+len(body))
	message = binary.NativeEndian.AppendUint32(message, uint32(cap(message)))
	message = binary.NativeEndian.AppendUint16(message, unix.NFNL_SUBSYS_NFTABLES<<8|request)
	message = binary.NativeEndian.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	message = binary.NativeEndian.AppendUint32(message, s.sequence)
	message = binary.NativeEndian.AppendUint32(message, 0)
	message = append(message, family, unix.NFNETLINK_V0, 0, 0)
	if _, err := unix.Write(s.fd, append(message, body...)); err != nil {
		return os.NewSyscallError("send", err)
	}
	for {
		n, err := unix.Read(s.fd, s.buffer)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("receive", err)
		case n == len(s.buffer):
			return fmt.Errorf("netlink message of more than %d bytes", n)
		}
		if done, err := s.messages(s.buffer[:n], read); done || err != nil {
			return err
		}
	}
}

// messages passes on those in what was received. done says that no more come.
func (s *socket) messages(data []byte, read func(family uint8, body []byte) error) (done bool, err error) {
	for len(data) > 0 {
		if len(data) < unix.SizeofNlMsghdr {
			return true, fmt.Errorf("netlink message of %d bytes", len(data))
		}
		size := int(binary.NativeEndian.Uint32(data))
		if size < unix.SizeofNlMsghdr || size > len(data) {
			return true, fmt.Errorf("netlink message of %d bytes in %d", size, len(data))
		}
		kind, flags := binary.NativeEndian.Uint16(data[4:]), binary.NativeEndian.Uint16(data[6:])
		sequence := binary.NativeEndian.Uint32(data[8:])
		body := data[unix.SizeofNlMsghdr:size:size]
		data = data[min((size+3)&^3, len(data)):]
		switch {
		case sequence != s.sequence:
			return true, fmt.Errorf("netlink message %d, not %d", sequence, s.sequence)
		case flags&unix.NLM_F_DUMP_INTR != 0:
			return true, errInterrupted
		case kind == unix.NLMSG_DONE, kind == unix.NLMSG_ERROR:
			if len(body) >= 4 {
				if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
					return true, interrupted(unix.Errno(-code))
				}
			}
			return true, nil
		case len(body) < nfgenmsg:
			return true, fmt.Errorf("netlink message of %d bytes", len(body))
		}
		if err := read(body[0], body[nfgenmsg:]); err != nil {
			return true, err
		}
	}
	return false, nil
}

// interrupted is the error of a dump that the kernel gave up, because what it
// was at is no longer there.
func interrupted(err unix.Errno) error {
	if err == unix.EINTR {
		return errInterrupted
	}
	return err
}
