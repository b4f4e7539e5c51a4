package rootfile

import (
	"fmt"
	"strconv"
	"strings"
)

// User is a line of /etc/passwd.
type User struct {
	Name     string
	UID, GID uint32
	Home     string
}

// maxAccounts bounds what is read of /etc/passwd and /etc/group, in bytes.
const maxAccounts = 1 << 20

// User looks a user up in the root's /etc/passwd.
func (r *Root) User(name string) (User, error) {
	fields, err := r.account("/etc/passwd", name, 7)
	if err != nil {
		return User{}, err
	}
	uid, err1 := strconv.ParseUint(fields[2], 10, 32)
	gid, err2 := strconv.ParseUint(fields[3], 10, 32)
	if err1 != nil || err2 != nil {
		return User{}, fmt.Errorf("user %q has no ids in /etc/passwd: %q", name, strings.Join(fields[2:4], ":"))
	}
	return User{Name: name, UID: uint32(uid), GID: uint32(gid), Home: fields[5]}, nil
}

// Owner turns "user", "user:group" or numbers in their place into ids. A user alone
// stands for its group, too; "" is root.
func (r *Root) Owner(owner string) (uid, gid uint32, err error) {
	if owner == "" {
		return 0, 0, nil
	}
	user, group, hasGroup := strings.Cut(owner, ":")
	if n, err := strconv.ParseUint(user, 10, 32); err == nil {
		uid, gid = uint32(n), uint32(n)
	} else {
		u, err := r.User(user)
		if err != nil {
			return 0, 0, err
		}
		uid, gid = u.UID, u.GID
	}
	if !hasGroup {
		return uid, gid, nil
	}
	if n, err := strconv.ParseUint(group, 10, 32); err == nil {
		return uid, uint32(n), nil
	}
	fields, err := r.account("/etc/group", group, 4)
	if err != nil {
		return 0, 0, err
	}
	n, err := strconv.ParseUint(fields[2], 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("group %q has no id in /etc/group: %q", group, fields[2])
	}
	return uid, uint32(n), nil
}

// account finds the line of a name; it has n fields.
func (r *Root) account(file, name string, n int) ([]string, error) {
	text, _, err := r.Read(file, maxAccounts)
	if err != nil {
		return nil, err
	}
	if f := lineOf(string(text), name, n); f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("%q is not in the board's %s", name, file)
}

// lineOf is the first line of n fields whose first is name; nil: none.
func lineOf(text, name string, n int) []string {
	for line := range strings.Lines(text) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), ":"); f[0] == name && len(f) == n {
			return f
		}
	}
	return nil
}
