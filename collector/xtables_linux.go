package collector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// xtables is how the kernel is asked for its own tables of one family. Asking for
// a table that is not there would create it: whoever asks knows that it is.
type xtables struct {
	domain, level int
	option        int // *_SO_GET_INFO; *_SO_GET_ENTRIES is the next one
	infoSize      int // struct *_getinfo, of which the last word is the size of the entries
	nextOffset    int // of the member of that name in struct *_entry
	entrySize     int // struct *_entry, which ends in its counters
}

// Of <linux/netfilter_arp/arp_tables.h>, <linux/netfilter_ipv4/ip_tables.h> and
// <linux/netfilter_ipv6/ip6_tables.h>.
var (
	arpXTables  = xtables{unix.AF_INET, unix.IPPROTO_IP, 96, 68, 166, arptEntrySize}
	ipv4XTables = xtables{unix.AF_INET, unix.IPPROTO_IP, 64, 84, 90, 112}
	ipv6XTables = xtables{unix.AF_INET6, unix.IPPROTO_IPV6, 64, 84, 142, 168}
)

const (
	xtNameSize     = 32 // XT_TABLE_MAXNAMELEN
	xtHeaderSize   = 40 // struct *_get_entries, before the entries
	xtCountersSize = 16 // struct xt_counters
)

var errXTEntry = errors.New("an entry is not understood")

// get asks for a table. One that is replaced meanwhile has another size, which
// the kernel refuses with EAGAIN: then it is asked again.
func (x *xtables) get(name string) (info, entries []byte, err error) {
	fd, err := unix.Socket(x.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fd)
	for range nftRetries {
		info = make([]byte, x.infoSize)
		copy(info[:xtNameSize-1], name)
		if err := getsockopt(fd, x.level, x.option, info); err != nil {
			return nil, nil, err
		}
		size := binary.NativeEndian.Uint32(info[x.infoSize-4:])
		data := make([]byte, xtHeaderSize+int(size))
		copy(data, info[:xtNameSize])
		binary.NativeEndian.PutUint32(data[xtNameSize:], size)
		if err = getsockopt(fd, x.level, x.option+1, data); err == nil {
			return info, data[xtHeaderSize:], nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, nil, err
		}
	}
	return nil, nil, unix.EAGAIN
}

// getsockopt has the kernel read and fill a buffer.
func getsockopt(fd, level, option int, buffer []byte) error {
	length := uint32(len(buffer))
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// sum adds a table to a sum, without its counters.
func (x *xtables) sum(h hash.Hash, name string) error {
	info, entries, err := x.get(name)
	if err != nil {
		return fmt.Errorf("read the table %s: %w", name, err)
	}
	for rest := entries; len(rest) > 0; {
		if len(rest) < x.entrySize {
			return errXTEntry
		}
		next := int(binary.NativeEndian.Uint16(rest[x.nextOffset:]))
		if next < x.entrySize || next > len(rest) {
			return errXTEntry
		}
		clear(rest[x.entrySize-xtCountersSize : x.entrySize])
		rest = rest[next:]
	}
	h.Write(info)
	h.Write(entries)
	return nil
}
