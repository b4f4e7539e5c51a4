package sdcard

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"rubus/boot/eeprom"
)

// bootloader is the smallest image of a Pi 4's bootloader: code and a
// configuration.
func bootloader() []byte {
	b := bytes.Repeat([]byte{0xff}, 512<<10)
	put := func(at int, magic uint32, body []byte) {
		binary.BigEndian.PutUint32(b[at:], magic)
		binary.BigEndian.PutUint32(b[at+4:], uint32(len(body)))
		copy(b[at+8:], body)
	}
	const at = 0x72e00
	put(0, 0x55aaf00f, bytes.Repeat([]byte{0xa5}, at-8))
	put(at, 0x55aaf11f, append([]byte("bootconf.txt\x00\x00\x00\x00"), "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf41\n"...))
	return b
}

func boot() fstest.MapFS {
	return fstest.MapFS{
		"bootcode.bin": {Data: bytes.Repeat([]byte("b"), 52460)},
		"start.elf":    {Data: bytes.Repeat([]byte("s"), 2973536)},
		"fixup.dat":    {Data: bytes.Repeat([]byte("f"), 7262)},
	}
}

// tool runs a program that knows FAT and gives what it prints.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q (scripts/deps test): %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Other people's programs find on the card what was planned.
func TestCards(t *testing.T) {
	now := time.Unix(1700000000, 0)
	for _, c := range []struct {
		name  string
		kind  Kind
		src   Source
		files []string
	}{
		{"program", ProgramOTP, Source{Boot: boot()}, []string{"bootcode.bin", "start.elf", "fixup.dat", "config.txt"}},
		{"bootcode", Bootcode, Source{Boot: boot()}, []string{"bootcode.bin", "timeout"}},
		{"eeprom", FlashEEPROM, Source{EEPROM: bootloader(), Recovery: bytes.Repeat([]byte("r"), 100140)}, []string{"recovery.bin", "pieeprom.bin", "pieeprom.sig"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			files, err := Plan(c.kind, c.src, eeprom.BCM2711, 0xf12, now)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "card.img")
			if err := Write(path, files); err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("beside the card lie %v, %v", left, err)
			}
			// The partition table as sfdisk reads it.
			table := tool(t, "sfdisk", "--dump", path)
			if !strings.Contains(table, "start=        2048, size=      129024, type=c") {
				t.Errorf("partition table:\n%s", table)
			}
			// The file system as fsck.fat sees it, the files as mtools do.
			part := filepath.Join(dir, "part")
			tool(t, "dd", "if="+path, "of="+part, "bs=1M", "skip=1", "status=none")
			if out := tool(t, "fsck.fat", "-n", "-v", part); !strings.Contains(out, "2 FATs, 32 bit entries") {
				t.Errorf("fsck.fat:\n%s", out)
			}
			if len(files) != len(c.files) {
				t.Errorf("%d files, want %q", len(files), c.files)
			}
			for i, f := range files {
				if f.Name != c.files[i] {
					t.Errorf("file %d is %s, want %s", i, f.Name, c.files[i])
				}
				to := filepath.Join(dir, f.Name)
				tool(t, "mcopy", "-i", part, "::"+f.Name, to)
				if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, f.Data) {
					t.Errorf("%s on the card has %d bytes, want %d: %v", f.Name, len(got), len(f.Data), err)
				}
			}
			if n := strings.Count(tool(t, "mdir", "-b", "-i", part, "::"), "\n"); n != len(files) {
				t.Errorf("the card has %d files, want %d", n, len(files))
			}
		})
	}
}

func TestFlash(t *testing.T) {
	before := bootloader()
	files, err := Plan(FlashEEPROM, Source{EEPROM: before, Recovery: []byte("r")}, eeprom.BCM2711, 0xf12, time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, bootloader()) {
		t.Error("the caller's bootloader was changed")
	}
	img, err := eeprom.Parse(files[1].Data)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := img.Config(); err != nil || text != "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf12\n" {
		t.Errorf("configuration %q, %v", text, err)
	}
	sum := sha256.Sum256(files[1].Data)
	if want := hex.EncodeToString(sum[:]) + "\nts: 1700000000\ntarget-soc: 2711\n"; string(files[2].Data) != want {
		t.Errorf("signature file %q, want %q", files[2].Data, want)
	}
}

func TestPlanRefuses(t *testing.T) {
	big := boot()
	big["start.elf"] = &fstest.MapFile{Data: make([]byte, maxFirmware+1)}
	dir := boot()
	dir["fixup.dat"] = &fstest.MapFile{Mode: os.ModeDir}
	for _, c := range []struct {
		name, want string
		kind       Kind
		src        Source
		chip       eeprom.Chip
	}{
		{"no kind", "unknown kind", 0, Source{}, 0},
		{"no firmware", "bootcode.bin", Bootcode, Source{Boot: fstest.MapFS{}}, 0},
		{"huge firmware", "no firmware", ProgramOTP, Source{Boot: big}, 0},
		{"a directory", "no firmware", ProgramOTP, Source{Boot: dir}, 0},
		{"another board's bootloader", "BCM2711, not a BCM2712", FlashEEPROM, Source{EEPROM: bootloader(), Recovery: []byte("r")}, eeprom.BCM2712},
		{"no bootloader", "0 bytes", FlashEEPROM, Source{Recovery: []byte("r")}, eeprom.BCM2711},
		{"no recovery.bin", "recovery.bin", FlashEEPROM, Source{EEPROM: bootloader()}, eeprom.BCM2711},
	} {
		_, err := Plan(c.kind, c.src, c.chip, 0xf21, time.Time{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	if err := Write(filepath.Join(t.TempDir(), "card"), []File{{"big", make([]byte, partSize)}}); err == nil {
		t.Error("a card takes more than it has room for")
	}
}
