package exporter

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/snapshot"
)

// A node that is switched off drops what begins a connection, as a listener does that accepts none.
func TestConnectingIsGivenUp(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
	waiting, err := net.Dial("tcp", address) // and there is no place for another one
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	client, closer, err := newAgentClient(schedules.Controller{})
	if err != nil {
		t.Fatal(err)
	}
	defer closer()
	_, err = snapshot.NewClient(client, snapshot.NewStore(), time.Minute).Fetch(t.Context(), &url.URL{Scheme: "http", Host: address}, 0, nil)
	if failed := (*net.OpError)(nil); !errors.As(err, &failed) || failed.Op != "dial" || !failed.Timeout() {
		t.Errorf("error %v", err)
	}
}
