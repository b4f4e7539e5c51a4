package rootfile

import "testing"

func FuzzAccounts(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/sh\n", "root")
	f.Add("a:b\n:::::::\n\x00", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		if got := lineOf(text, name, 7); got != nil && (len(got) != 7 || got[0] != name) {
			t.Errorf("%q for %q", got, name)
		}
	})
}
