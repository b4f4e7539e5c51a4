package creds

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestMay: one triple of the bits is the caller's, whatever the others say.
func TestMay(t *testing.T) {
	root, user := Caller{}, Caller{UID: 1000, GID: 2000, Groups: []uint32{3000, 3001}}
	file := func(mode, uid, gid uint32) unix.Stat_t {
		return unix.Stat_t{Mode: unix.S_IFREG | mode, Uid: uid, Gid: gid}
	}
	dir := unix.Stat_t{Mode: unix.S_IFDIR}
	for name, c := range map[string]struct {
		who     Caller
		st      unix.Stat_t
		want    uint32
		ok, acl bool
	}{
		"root reads and writes all":                {root, file(0, 1, 1), Read | Write, true, false},
		"root runs what somebody may":              {root, file(0o010, 1, 1), Exec, true, false},
		"root runs not what nobody may":            {root, file(0o666, 0, 0), Exec, false, false},
		"root goes through any directory":          {root, dir, Read | Write | Exec, true, false},
		"the owner":                                {user, file(0o600, 1000, 1), Read | Write, true, false},
		"the owner, who took it from himself":      {user, file(0o077, 1000, 2000), Read, false, false},
		"the owner lacks one of two":               {user, file(0o400, 1000, 1), Read | Write, false, false},
		"the group":                                {user, file(0o060, 1, 2000), Read | Write, true, true},
		"the group, without the others' bits":      {user, file(0o007, 1, 2000), Read, false, false},
		"one of the groups":                        {user, file(0o050, 1, 3001), Read | Exec, true, true},
		"a group of none of these":                 {user, file(0o070, 1, 3002), Read, false, true},
		"others":                                   {user, file(0o005, 1, 1), Read | Exec, true, false},
		"others lack one":                          {user, file(0o004, 1, 1), Read | Exec, false, false},
		"others, where an ACL may say more":        {user, file(0o074, 1, 1), Read, true, true},
		"root's group makes no root":               {Caller{UID: 1000}, file(0o600, 0, 0), Read, false, false},
		"a user of root's group":                   {Caller{UID: 1000}, file(0o040, 1, 0), Read, true, true},
		"nothing is asked for":                     {user, file(0, 1, 1), 0, true, false},
		"set-id bits say nothing":                  {user, file(unix.S_ISUID|unix.S_ISGID, 1000, 2000), Read, false, false},
		"a directory's owner searches as he reads": {user, unix.Stat_t{Mode: unix.S_IFDIR | 0o600, Uid: 1000}, Exec, false, false},
	} {
		if ok, acl := c.who.May(&c.st, c.want); ok != c.ok || acl != c.acl {
			t.Errorf("%s: %v, an ACL has a say: %v", name, ok, acl)
		}
	}
}

// TestMayIsTheKernels asks the kernel the same, where there are no ACLs.
func TestMayIsTheKernels(t *testing.T) {
	path := t.TempDir() + "/f"
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, who := range []Caller{{}, {UID: 1}, {UID: 1, GID: 2}, {UID: 2, GID: 1}, {UID: 2, GID: 3, Groups: []uint32{5, 2}}, {UID: 7, GID: 7}} {
		if err := unix.Fchown(fd, 1, 2); err != nil {
			t.Fatal(err)
		}
		for _, mode := range []uint32{0, 0o700, 0o070, 0o007, 0o641, 0o153, 0o224, 0o111} {
			if err := unix.Fchmod(fd, mode); err != nil {
				t.Fatal(err)
			}
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				t.Fatal(err)
			}
			for want := range uint32(8) {
				e, stuck := who.Run(func() unix.Errno {
					if err := unix.Faccessat2(fd, "", want, unix.AT_EMPTY_PATH|unix.AT_EACCESS); err != nil {
						return err.(unix.Errno)
					}
					return 0
				})
				if ok, _ := who.May(&st, want); ok != (e == 0) || stuck {
					t.Errorf("%+v, mode %o, asked for %o: %v, the kernel says %v", who, mode, want, ok, e)
				}
			}
		}
	}
}

func TestOwns(t *testing.T) {
	for name, c := range map[string]struct {
		who  Caller
		uid  uint32
		want bool
	}{
		"root":                {Caller{}, 1000, true},
		"the owner":           {Caller{UID: 1000}, 1000, true},
		"another":             {Caller{UID: 1001}, 1000, false},
		"the owner's group":   {Caller{UID: 1001, GID: 1000}, 1000, false},
		"a file of root's":    {Caller{UID: 1000}, 0, false},
		"root by group alone": {Caller{UID: 1000, GID: 0}, 1, false},
	} {
		if got := c.who.Owns(&unix.Stat_t{Uid: c.uid, Gid: 1000}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
