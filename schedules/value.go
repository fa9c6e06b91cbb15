package schedules

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// What single values of a configuration may be. Each function returns the value of a
// text, or says what is wrong with it.

func text(s string) (string, error) {
	if s == "" {
		return "", errors.New("is empty")
	}
	return s, nil
}

func boolean(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("is not true or false")
}

// number parses whole numbers from low to high.
func number[T ~int | ~uint8 | ~uint16 | ~uint32](low, high int64) func(string) (T, error) {
	return func(s string) (T, error) {
		n, err := strconv.ParseInt(s, 0, 64)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("is not a whole number from %d to %d", low, high)
		}
		return T(n), nil
	}
}

func ratio(low, high float64) func(string) (float64, error) {
	return func(s string) (float64, error) {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(f) || f < low || f > high {
			return 0, fmt.Errorf("is not a number from %v to %v", low, high)
		}
		return f, nil
	}
}

func duration(low time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		v, err := time.ParseDuration(s)
		if err != nil {
			return 0, errors.New("is not a duration such as 10s, 5m or 1h30m")
		}
		if v < low {
			return 0, fmt.Errorf("is less than %s", low)
		}
		return v, nil
	}
}

// oneOf reads one of some words.
func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("is not one of %s", strings.Join(words, ", "))
		}
		return s, nil
	}
}

var regionID = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`)

func region(s string) (string, error) {
	if !regionID.MatchString(s) {
		return "", errors.New("is not the ID of a region such as cn-hangzhou")
	}
	return s, nil
}

// endpoint reads where a part of a cloud's API answers. What leaves the host is
// encrypted, but what the instance's metadata service says.
func endpoint(name string) func(string) (*url.URL, error) {
	return func(s string) (*url.URL, error) {
		u, err := serverURL(s)
		if err != nil {
			return nil, fmt.Errorf("is not a URL such as https://%s.cn-hangzhou.aliyuncs.com", name)
		}
		if u.Scheme == "http" && name != "metadata" && !loopback(u) {
			return nil, errors.New("is not https, which is for what is beyond loopback")
		}
		return u, nil
	}
}

// serverURL reads a URL that names a server, and nothing of it.
func serverURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("is not the URL of a server")
	}
	return u, nil
}

func loopback(u *url.URL) bool {
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// agentURL reads where an agent listens. What leaves the host is encrypted.
func agentURL(s string) (*url.URL, error) {
	u, err := serverURL(s)
	if err != nil {
		return nil, errors.New("is not a URL such as https://10.0.0.1:9811")
	}
	if u.Scheme == "http" && !loopback(u) {
		return nil, errors.New("is not https, which is for agents beyond loopback")
	}
	return u, nil
}

// path is a file named relative to the configuration file.
func (d decoder) path(s string) (string, error) {
	if s == "" {
		return "", errors.New("is empty")
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(filepath.Dir(d.file), s)
	}
	return s, nil
}

func protocol(s string) (verdict.Protocol, error) {
	p := verdict.Protocol(s)
	if !p.Valid() {
		return "", errors.New("is not one of tcp, udp, sctp, icmp")
	}
	return p, nil
}

func validPattern(s string) error {
	if _, err := path.Match(s, ""); err != nil {
		return errors.New("is not a glob pattern")
	}
	return nil
}

// hostname is deliberately loose: what is compared is the Host header.
var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

func validHost(s string) error {
	if net.ParseIP(s) == nil && !hostname.MatchString(s) {
		return errors.New("is not a host name or an IP address (without a port)")
	}
	return nil
}

func hostPort(s string) (string, error) {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", errors.New("is not HOST:PORT")
	}
	_, err = number[uint16](0, 65535)(port)
	return s, err
}

// existing checks a file named relative to the configuration file.
func (d decoder) existing(s string) (string, error) {
	s, err := d.path(s)
	if err != nil {
		return "", err
	}
	_, err = os.Stat(s)
	if errors.Is(err, os.ErrNotExist) {
		err = errors.New("no such file")
	}
	return s, err
}

// directory checks a directory named relative to the configuration file.
func (d decoder) directory(s string) (string, error) {
	s, err := d.path(s)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(s)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", errors.New("no such directory")
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", errors.New("is not a directory")
	}
	return s, nil
}
