package judge

import (
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// segmentInSoftware keeps the devices of the calling thread's namespace from taking TCP's data in pieces larger than
// their MTU: those would slip past the checks that full-size packets meet.
func segmentInSoftware() error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, l := range links {
		if l.Flags&net.FlagLoopback != 0 {
			continue
		}
		for _, command := range []uint32{unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO} {
			value := struct{ command, data uint32 }{command: command}
			request := struct {
				name [unix.IFNAMSIZ]byte
				data unsafe.Pointer
				_    [16]byte
			}{data: unsafe.Pointer(&value)}
			copy(request.name[:], l.Name)
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 && errno != unix.EOPNOTSUPP {
				return fmt.Errorf("turn segmentation off on %s: %w", l.Name, errno)
			}
		}
	}
	return nil
}
