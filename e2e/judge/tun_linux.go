package judge

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tun opens tun and tap devices as the program would that is at their other end: it notes what leaves by them.
func (b *built) tun(_ context.Context, ns string, elements []*Element) error {
	return b.within(ns, func() error {
		for _, e := range elements {
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("%s: open tun: %w", e.ID, err)
			}
			header, flags := 0, uint16(unix.IFF_TUN|unix.IFF_NO_PI)
			if strings.HasPrefix(e.Text, "tap") {
				header, flags = 14, unix.IFF_TAP|unix.IFF_NO_PI
			}
			var request [40]byte
			copy(request[:unix.IFNAMSIZ-1], e.Text)
			binary.NativeEndian.PutUint16(request[unix.IFNAMSIZ:], flags)
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
				unix.Close(fd)
				return fmt.Errorf("%s: open %s: %w", e.ID, e.Text, errno)
			}
			file := os.NewFile(uintptr(fd), e.Text)
			b.ears.serve(file.Close, func() {
				buf := make([]byte, 4096)
				for {
					n, err := file.Read(buf)
					if err != nil {
						return
					}
					b.ears.notePacket(outside, buf[min(header, n):n])
				}
			})
		}
		return nil
	})
}
