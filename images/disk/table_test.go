package disk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rubus/images/disk"
)

func partitioned(t testing.TB, size int64, script string) []byte {
	t.Helper()
	img := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(img)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "sfdisk", "-q", img)
	c.Stdin = strings.NewReader(script)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What sfdisk wrote is what is read.
func TestRead(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"MBR": {
			"label: dos\nlabel-id: 0xdeadbeef\nstart=2048,size=4096,type=c\nstart=8192,type=83\n",
			"MBR 1 1048576+2097152 deadbeef-01 | 2 4194304+12582912 deadbeef-02",
		},
		"logical": {
			"label: dos\nlabel-id: 0x00000001\nstart=2048,size=2048,type=c\nstart=4096,type=5\nstart=6144,size=2048,type=83\nstart=10240,size=2048,type=83\n",
			"MBR 1 1048576+1048576 00000001-01 | 5 3145728+1048576 00000001-05 | 6 5242880+1048576 00000001-06",
		},
		"GPT": {
			"label: gpt\nstart=2048,size=2048,uuid=11111111-2222-3333-4444-555555555555,name=boot\nstart=4096,size=2048,uuid=99999999-2222-3333-4444-abcdefabcdef,name=root\n",
			"GPT 1 1048576+1048576 11111111-2222-3333-4444-555555555555 boot | 2 2097152+1048576 99999999-2222-3333-4444-abcdefabcdef root",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := partitioned(t, 16<<20, c.script)
			table, err := disk.Read(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			var parts []string
			for _, p := range table.Partitions {
				parts = append(parts, strings.TrimSpace(fmt.Sprintf("%d %d+%d %s %s", p.Number, p.Start, p.Size, p.UUID, p.Name)))
			}
			if got := table.Kind + " " + strings.Join(parts, " | "); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func TestNoTable(t *testing.T) {
	boot := make([]byte, 4096) // of a FAT file system: its code lies where entries would
	boot[510], boot[511] = 0x55, 0xaa
	copy(boot[446:], "\xeb\x58\x90 code and more code and more code")
	for name, b := range map[string][]byte{"zeros": make([]byte, 4096), "boot sector": boot, "empty table": append(make([]byte, 510), 0x55, 0xaa)} {
		if _, err := disk.Read(bytes.NewReader(b), int64(len(b))); !errors.Is(err, disk.ErrNoTable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	gpt := partitioned(t, 4<<20, "label: gpt\nsize=2048\n")
	gpt[512+80] ^= 1
	if _, err := disk.Read(bytes.NewReader(gpt), int64(len(gpt))); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("a damaged header: %v", err)
	}
}

// Tables without end, that lead back, or that say more than anybody has.
func TestHostile(t *testing.T) {
	le := binary.LittleEndian
	logical := partitioned(t, 16<<20, "label: dos\nstart=2048,size=2048,type=c\nstart=4096,type=5\nstart=6144,size=2048,type=83\n")
	// boot makes a table with one partition of a type at sector 1, and one that leads on.
	boot := func(b []byte, base, next int) {
		copy(b[446:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0})
		le.PutUint32(b[446+16+8:], uint32(next-base))
		le.PutUint32(b[446+16+12:], 1)
		b[510], b[511] = 0x55, 0xaa
	}
	gpt := func(change func(header []byte)) func() []byte {
		return func() []byte {
			b := partitioned(t, 4<<20, "label: gpt\nsize=2048\n")
			h := b[512:][:92]
			change(h)
			clear(h[16:20])
			le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
			return b
		}
	}
	for name, c := range map[string]struct {
		make func() []byte
		want string
	}{
		"a chain back": {func() []byte {
			b := bytes.Clone(logical)
			boot(b[4096*512:], 4096, 4098)
			boot(b[4098*512:], 4096, 4098)
			return b
		}, "goes back"},
		"a chain without end": {func() []byte {
			b := bytes.Clone(logical)
			for at := 4096; at < 4096+2*300; at += 2 {
				boot(b[at*512:], 4096, at+2)
			}
			return b
		}, "has no end"},
		"a chain to nothing": {func() []byte {
			b := bytes.Clone(logical)
			boot(b[4096*512:], 4096, 1<<24)
			return b
		}, "behind the end"},
		"GPT, a million entries":      {gpt(func(h []byte) { le.PutUint32(h[80:], 1<<20) }), "a GPT of"},
		"GPT, entries of a gigabyte":  {gpt(func(h []byte) { le.PutUint32(h[84:], 1<<30) }), "a GPT of"},
		"GPT, entries of nothing":     {gpt(func(h []byte) { le.PutUint32(h[84:], 0) }), "a GPT of"},
		"GPT, entries behind the end": {gpt(func(h []byte) { le.PutUint64(h[72:], 1<<60) }), "a GPT of"},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.make()
			if _, err := disk.Read(bytes.NewReader(b), int64(len(b))); !errors.Is(err, disk.ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	for _, script := range []string{
		"label: dos\nstart=2048,size=2048,type=c\nstart=4096,type=5\nstart=6144,type=83\n",
		"label: gpt\nstart=40,size=40\n",
	} {
		f.Add(partitioned(f, 4<<20, script)[:32<<10])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := disk.Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, p := range table.Partitions {
			if p.Start <= 0 || p.Size <= 0 {
				t.Errorf("%+v", p)
			}
		}
	})
}
