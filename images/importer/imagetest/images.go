package imagetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Family is how a release lays out its images.
type Family struct {
	Start, BootMB int64    // of the boot partition: first sector, MiB
	Cluster       string   // sectors
	Label         string   // of the boot partition
	Mount         string   // of the boot partition
	Root          []string // arguments of mkfs.ext4
	Fstab         string
	GPT           bool
}

// Families are the release families, as pi-gen's export-image, Ubuntu's and
// Debian's image builders made them.
func Families() map[string]Family {
	const pios = "proc /proc proc defaults 0 0\nPARTUUID=5e3da3da-01 %s vfat defaults 0 2\nPARTUUID=5e3da3da-02 / ext4 defaults,noatime 0 1\n"
	old := []string{"-L", "rootfs", "-O", "^huge_file,^metadata_csum,^64bit"}
	trixie := []string{"-L", "rootfs", "-O", "^huge_file,metadata_csum,metadata_csum_seed,orphan_file,64bit"}
	return map[string]Family{
		"bullseye":       {8192, 256, "4", "boot", "boot", old, fmt.Sprintf(pios, "/boot"), false},
		"bookworm early": {8192, 512, "4", "bootfs", "boot/firmware", old, fmt.Sprintf(pios, "/boot/firmware"), false},
		"bookworm late":  {16384, 512, "4", "bootfs", "boot/firmware", old, fmt.Sprintf(pios, "/boot/firmware"), false},
		"trixie":         {16384, 512, "1", "bootfs", "boot/firmware", trixie, fmt.Sprintf(pios, "/boot/firmware"), false},
		"ubuntu": {
			2048, 512, "8", "system-boot", "boot/firmware",
			[]string{"-L", "writable", "-O", "64bit,metadata_csum"},
			"LABEL=writable\t/\text4\tdefaults\t0 1\nLABEL=system-boot       /boot/firmware  vfat    defaults        0       1\n", false,
		},
		"debian, GPT": {2048, 300, "4", "RASPIFIRM", "boot/firmware", []string{"-L", "RASPIROOT"}, "LABEL=RASPIROOT / ext4 rw 0 1\nLABEL=RASPIFIRM /boot/firmware vfat rw 0 2\n", true},
	}
}

// Tool runs a program that has to succeed.
func Tool(t testing.TB, stdin, name string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Env = append(os.Environ(), "TZ=UTC")
	c.Stdin = strings.NewReader(stdin)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// Make builds an image in the shape of a release out of what its root and its boot partition hold.
func Make(t testing.TB, f Family, root, boot string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "raspios.img")
	const rootMB = 64
	end := f.Start*512 + f.BootMB<<20
	size := end + rootMB<<20
	tail := ""
	if f.GPT {
		tail = fmt.Sprintf("size=%d,", rootMB<<11)
		size += 1 << 20
	}
	must(t, os.WriteFile(img, nil, 0o600))
	must(t, os.Truncate(img, size))
	label := "label: dos\nlabel-id: 0x5e3da3da\n"
	kinds := [2]string{"c", "83"}
	if f.GPT {
		label, kinds = "label: gpt\n", [2]string{"U", "L"}
	}
	Tool(t, fmt.Sprintf("%sstart=%d,size=%d,type=%s\nstart=%d,%stype=%s\n", label, f.Start, f.BootMB<<11, kinds[0], end/512, tail, kinds[1]), "sfdisk", "-q", img)
	Tool(t, "", "mkfs.vfat", "-F", "32", "-s", f.Cluster, "-n", f.Label, "--offset", fmt.Sprint(f.Start), img, fmt.Sprint(f.BootMB<<10))
	list, err := filepath.Glob(boot + "/*")
	must(t, err)
	Tool(t, "", "mcopy", append([]string{"-s", "-m", "-i", fmt.Sprintf("%s@@%d", img, f.Start*512)}, append(list, "::")...)...)
	Tool(t, "", "mkfs.ext4", append(f.Root, "-q", "-F", "-d", root, "-E", fmt.Sprintf("offset=%d", end), img, fmt.Sprintf("%dM", rootMB))...)
	return img
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
