package bootfs

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"
)

const (
	// MaxCmdline is the longest kernel command line, in bytes, that all
	// firmwares and kernels take.
	MaxCmdline = 1024
	// defaultWords stand in for a board's own: a console on the serial line
	// (the firmware puts the real name for serial0) and one on the screen.
	defaultWords = "console=serial0,115200 console=tty1"
	nfsPort      = 2049
)

// CmdlineParams is what a board's kernel must know of its root.
type CmdlineParams struct {
	Server netip.Addr // where the board sent its request
	Path   string     // the export, as MOUNT names it
	Port   uint16     // NFS port; 0 is 2049
	Boot   string     // the boot's id, for the system to report; "": none
	Extra  []string   // the device's own words, last
}

// Cmdline makes the one line of a board's cmdline.txt, without a newline: its
// own words without those about its root and first-boot set-up, then ours,
// then the device's. Own text that can't be a command line is replaced by a
// safe default and reported. The error says that params make no valid line.
func Cmdline(own []byte, p CmdlineParams) (line string, warnings []string, err error) {
	ours, err := p.words()
	if err != nil {
		return "", nil, err
	}
	kept, warnings := keptWords(own)
	line = strings.Join(append(kept, ours...), " ")
	if len(line) > MaxCmdline && len(own) > 0 {
		warnings = append(warnings, fmt.Sprintf("%d bytes with the server's words, at most %d: the board's own words were left out", len(line), MaxCmdline))
		line = defaultWords + " " + strings.Join(ours, " ")
	}
	if len(line) > MaxCmdline {
		return "", warnings, fmt.Errorf("kernel command line has %d bytes, at most %d: shorten the device's cmdline", len(line), MaxCmdline)
	}
	return line, warnings, nil
}

// oneClient spares the questions that only make sense where others may change
// files: a root has one client. nocto: no GETATTR at each open. The others say for
// how many seconds attributes of files and directories are believed: what the
// server's admin changes in the root of a running board is seen after ten minutes
// at the latest. klibc knows no actimeo=.
const oneClient = "nocto,acregmin=600,acregmax=600,acdirmin=600,acdirmax=600"

// words are ours and the device's. The options after the path are those that
// the kernel (nfsroot.rst) and the initramfs' nfsmount (klibc) both know: nfsmount
// fails on any other.
func (p CmdlineParams) words() ([]string, error) {
	if !p.Server.Is4() {
		return nil, fmt.Errorf("server address %q: boards boot over IPv4 only", p.Server)
	}
	if !safePath(p.Path) {
		return nil, fmt.Errorf("export path %q: want /, letters, digits, '.', '_' and '-' only", p.Path)
	}
	options := ",vers=3,tcp,nolock,hard," + oneClient
	if p.Port != 0 && p.Port != nfsPort {
		options += fmt.Sprintf(",port=%d", p.Port)
	}
	words := []string{
		"root=/dev/nfs", "nfsroot=" + p.Server.String() + ":" + p.Path + options,
		"rw", "ip=dhcp", "rootwait",
	}
	if p.Boot != "" {
		if !safePath("/" + p.Boot) {
			return nil, fmt.Errorf("boot id %q: want letters and digits", p.Boot)
		}
		words = append(words, "rubus.boot="+p.Boot)
	}
	for _, e := range p.Extra {
		if err := checkText(e); err != nil {
			return nil, fmt.Errorf("device's word %q: %w", e, err)
		}
		split, _ := splitWords(e)
		words = append(words, split...)
	}
	return words, nil
}

func safePath(p string) bool {
	return strings.HasPrefix(p, "/") && !strings.ContainsFunc(p, func(r rune) bool {
		return !strings.ContainsRune("/._-", r) &&
			(r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// keptWords reads a board's own cmdline.txt.
func keptWords(own []byte) (kept, warnings []string) {
	fallback := strings.Fields(defaultWords)
	if len(own) == 0 {
		return fallback, nil
	}
	first, rest, _ := strings.Cut(strings.TrimSpace(string(own)), "\n")
	first = strings.TrimRight(first, "\r")
	if err := checkText(first); err != nil {
		return fallback, []string{"not used: " + err.Error()}
	}
	if strings.TrimSpace(rest) != "" {
		warnings = append(warnings, "only the first line counts")
	}
	words, _ := splitWords(first)
	for _, w := range words {
		// What follows "--" goes to init, and so would our words.
		if w == "--" {
			warnings = append(warnings, `words behind "--" were left out`)
			break
		}
		if !dropped(w) {
			kept = append(kept, w)
		}
	}
	return kept, warnings
}

// checkText says why a text can't be part of a kernel command line.
func checkText(s string) error {
	switch {
	case len(s) > 4*MaxCmdline:
		return fmt.Errorf("%d bytes long", len(s))
	case !utf8.ValidString(s):
		return errors.New("not UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return r != '\t' && isControl(r) }):
		return errors.New("control characters")
	}
	if _, closed := splitWords(s); !closed {
		return errors.New("a quote that is not closed")
	}
	return nil
}

// splitWords splits as the kernel does (lib/cmdline.c, next_arg): blanks
// separate words unless between double quotes, which stay in the word.
func splitWords(s string) (words []string, closed bool) {
	quoted := false
	words = strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t')
	})
	return words, !quoted
}

// dropped says whether one of the board's own words is about the disk it was
// made for: where its root is, what to do with it, and how to set it up at
// the first boot.
func dropped(word string) bool {
	// The kernel takes '-' and '_' for the same, and quotes around it all.
	word = strings.Trim(word, `"`)
	key, _, _ := strings.Cut(strings.ReplaceAll(word, "-", "_"), "=")
	switch key {
	case "root", "rootfstype", "rootflags", "rootwait", "rootdelay", "ro", "rw",
		"nfsroot", "nfsaddrs", "ip", "init", "boot", "resize", "rubus.boot":
		return true
	}
	return strings.HasPrefix(key, "fsck.") || strings.HasPrefix(key, "systemd.run") ||
		// The target that systemd.run= words are run by, and nothing else.
		word == "systemd.unit=kernel-command-line.target"
}
