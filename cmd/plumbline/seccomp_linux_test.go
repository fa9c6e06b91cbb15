package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refused are the system calls that the default seccomp profile of container runtimes
// does not allow a container with an agent's capabilities. It lists what is allowed; of
// the rest these are those that every architecture has.
var refused = []uint32{
	// Of capabilities that an agent does not have: DAC_READ_SEARCH, SYS_BOOT, SYS_CHROOT,
	// SYS_MODULE, SYS_NICE, SYS_PACCT, SYS_TIME, SYS_TTY_CONFIG.
	unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_REBOOT,
	unix.SYS_CHROOT,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_GET_MEMPOLICY, unix.SYS_SET_MEMPOLICY, unix.SYS_MBIND,
	unix.SYS_ACCT,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME,
	unix.SYS_VHANGUP,
	// Whatever the capabilities.
	unix.SYS_ADD_KEY, unix.SYS_KEYCTL, unix.SYS_REQUEST_KEY,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
	unix.SYS_NFSSERVCTL,
	unix.SYS_PIVOT_ROOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF,
	unix.SYS_USERFAULTFD,
}

// confined, as the first argument, has this test program execute the others with the
// system calls refused, and with no_new_privs, as `allowPrivilegeEscalation: false` does.
const confined = "confined-by-seccomp"

func init() {
	if len(os.Args) > 2 && os.Args[1] == confined {
		fmt.Fprintln(os.Stderr, confine(os.Args[2:]))
		os.Exit(1)
	}
}

// confine executes a command line, and returns why it cannot.
func confine(argv []string) error {
	const (
		number, firstArgument = 0, 16 // offsets in struct seccomp_data
		denied                = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	)
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	unless := func(value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: skip, K: value}
	}
	answer := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	filter := []unix.SockFilter{load(number)}
	for _, call := range refused {
		filter = append(filter, unless(call, 1), answer(denied))
	}
	filter = append(filter, unless(unix.SYS_SOCKET, 3), load(firstArgument), unless(unix.AF_VSOCK, 1), answer(denied), answer(unix.SECCOMP_RET_ALLOW))
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // which the filter is of
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return syscall.Exec(path, argv, os.Environ())
}

// What is confined is refused what it asks for, and no more.
func TestConfined(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: who may do nothing is refused anyway")
	}
	for _, test := range []struct {
		argv []string
		says string
	}{
		{[]string{"true"}, ""},
		{[]string{"chroot", "/", "true"}, "Operation not permitted"},
		{[]string{"nsenter", "--net=/proc/self/ns/net", "true"}, ""},
	} {
		out, err := exec.Command(os.Args[0], append([]string{confined}, test.argv...)...).CombinedOutput()
		if (err == nil) != (test.says == "") || !strings.Contains(string(out), test.says) {
			t.Errorf("%v: %v, %q; want %q", test.argv, err, out, test.says)
		}
	}
}
