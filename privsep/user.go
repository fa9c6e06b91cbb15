package privsep

import (
	"fmt"
	"strconv"
	"strings"
)

// User is who the half that serves runs as.
type User struct{ UID, GID uint32 }

// DefaultUser is nobody else, as far as such numbers go: whoever has the same numbers on
// a node and sees its processes may read the files of this one (/proc/PID/root), its
// token among them, and this one theirs. Images commonly have 65532 (distroless'
// nonroot), 65534 (nobody) or small numbers; systemd gives 61184 and above to services,
// and user namespaces begin at 65536. From 60706 to 61183 nobody is, by systemd's table.
var DefaultUser = User{60811, 60811}

// String is UID:GID.
func (u User) String() string { return fmt.Sprintf("%d:%d", u.UID, u.GID) }

// Set implements pflag.Value.
func (u *User) Set(text string) error {
	uid, gid, ok := strings.Cut(text, ":")
	if !ok {
		return fmt.Errorf("%q is not UID:GID", text)
	}
	for i, number := range []string{uid, gid} {
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || n == 0 || n == 1<<32-1 {
			return fmt.Errorf("%q is not the number of a user or group other than root", number)
		}
		*[]*uint32{&u.UID, &u.GID}[i] = uint32(n)
	}
	return nil
}

// Type implements pflag.Value.
func (*User) Type() string { return "UID:GID" }
