package tarball

import (
	"fmt"
	"testing"
)

func TestParseACL(t *testing.T) {
	const five = "user::rw-,user:1000:r--,group::r--,mask::r--,other::---"
	const bytes = "02000000" + "01000600ffffffff" + "02000400e8030000" + "04000400ffffffff" + "10000400ffffffff" + "20000000ffffffff"
	for text, want := range map[string]string{
		five: bytes,
		"user::rw-\nuser:lisa:r--:1000\ngroup::r--\nmask::r--\t#effective:r--\nother::---\n": bytes, // as star writes it
		"u::rw-,o::---,m::r--,g::r--,u:1000:r--":                                             bytes, // in another order
		"user::rwx,group::r-x,other::r-x":                                                    "",    // only the mode
		"user::rw-,user:lisa:r--,group::r--,mask::r--,other::---":                            "error",
		"user::rw-,user:4294967296:r--,group::r--,mask::r--,other::---":                      "error",
		"user::rwz": "error", "rabbit::rwx": "error", "user": "error", "user::rwxr": "error",
	} {
		got, err := parseACL(text)
		hex := fmt.Sprintf("%x", got)
		if err != nil {
			hex = "error"
		}
		if hex != want {
			t.Errorf("parseACL(%q) = %s, %v; want %s", text, hex, err, want)
		}
	}
}

func FuzzParseACL(f *testing.F) {
	f.Add("user::rw-,user:1000:r--,group::r--,mask::r--,other::---")
	f.Fuzz(func(t *testing.T, s string) {
		if acl, err := parseACL(s); err == nil && acl != "" && len(acl)%8 != 4 {
			t.Fatalf("%d bytes", len(acl))
		}
	})
}
