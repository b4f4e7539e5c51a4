package nfstest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/nfsexport"
)

// fillQuota is what programs see of a quota of 32 MiB.
const fillQuota = `
cd /mnt
say() { echo "quota: $*"; }
refused() { ! "$@" 2>/tmp/err && grep -q "Disk quota exceeded" /tmp/err || { cat /tmp/err; false; }; }
say df
test "$(df -B1 --output=size . | tail -n 1)" -eq $((32 << 20))
dd if=/dev/urandom of=/tmp/random bs=1M count=48 status=none
say what is synced stays
dd if=/tmp/random of=kept bs=1M count=20 conv=fsync status=none
refused dd if=/tmp/random of=more bs=1M conv=fsync status=none
refused sh -c 'cat /tmp/random >>more'
say what is written synchronously is there to the last byte that was acknowledged
rm more && refused dd if=/tmp/random of=more bs=64k oflag=sync status=none
cmp -n "$(stat -c %s more)" /tmp/random more && test "$(stat -c %s more)" -gt $((10 << 20))
test "$(df -B1 --output=avail . | tail -n 1)" -lt $((1 << 20))
say golden files
refused dd if=/tmp/random of=golden bs=1 count=1 conv=notrunc,fsync status=none
refused chmod 600 golden
cmp golden /mnt/golden2
say in place, and away
dd if=/tmp/random of=more bs=1M count=5 skip=3 conv=notrunc,fsync status=none
cmp -n $((5 << 20)) -i 0:$((3 << 20)) more /tmp/random
chmod 600 kept && mv kept kept2
exec 7<more && rm more && cmp -n 4096 -i 0:$((3 << 20)) /proc/self/fd/7 /tmp/random && exec 7<&-
rm golden
say again
dd if=/tmp/random of=again bs=1M count=10 conv=fsync status=none
: >kept2
echo x >>golden2
sync -f . && echo 3 >/proc/sys/vm/drop_caches
cmp -n $((10 << 20)) again /tmp/random
say done
`

// Programs on a kernel's client are told of a full quota as by a disk's own, nothing
// that they were told is safe is lost, and they can make room.
func TestQuotaOfPrograms(t *testing.T) {
	s := serve(t, func(lower string) {
		for _, name := range []string{"golden", "golden2"} {
			if err := os.WriteFile(filepath.Join(lower, name), []byte(strings.Repeat("golden", 20<<20/6)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
	const limit = 32 << 20
	s.quota.Limit(nfsexport.Space{Bytes: limit})
	out, err := guest(t, "", fillQuota)
	if err != nil || !strings.HasSuffix(out, "quota: done\n") {
		t.Errorf("in the guest: %v\n%s", err, out)
	}
	if used := s.quota.Used(); used.Bytes > limit || used.Bytes < 30<<20 {
		t.Errorf("%+v are used", used)
	}
}
