package bootfs

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var params = CmdlineParams{Server: netip.MustParseAddr("10.0.0.1"), Path: "/rubus/5b154510"}

const ours = "root=/dev/nfs nfsroot=10.0.0.1:/rubus/5b154510,vers=3,tcp,nolock,hard,nocto,acregmin=600,acregmax=600,acdirmin=600,acdirmax=600 rw ip=dhcp rootwait"

func TestCmdline(t *testing.T) {
	for name, c := range map[string]struct {
		own  string
		want string // before ours
		warn string
	}{
		"Raspberry Pi OS bookworm, first boot": {
			string(readTestdata(t, "raspios-bookworm.cmdline.txt")),
			"console=serial0,115200 console=tty1 quiet splash plymouth.ignore-serial-consoles cfg80211.ieee80211_regdom=GB", "",
		},
		"Raspberry Pi OS trixie, first boot": {
			string(readTestdata(t, "raspios-trixie.cmdline.txt")),
			"console=serial0,115200 console=tty1 ds=nocloud;i=rpi-imager-1754914100", "",
		},
		"Debian": {
			string(readTestdata(t, "debian-bookworm.cmdline.txt")),
			"console=tty0 console=ttyS1,115200 net.ifnames=0 cma=64M", "",
		},
		"Debian on btrfs":     {"root=UUID=1 rootflags=subvol=@ boot=zfs quiet", "quiet", ""},
		"piserver":            {"root=/dev/nfs nfsroot=1.2.3.4:/x,v3 rw ip=dhcp rootwait elevator=deadline", "elevator=deadline", ""},
		"missing":             {"", defaultWords, ""},
		"quoted words":        {`a "b=c d" e="f g" "root=/dev/sda x" init="/bin/sh -x"`, `a "b=c d" e="f g"`, ""},
		"dash and underscore": {"systemd.run-success-action=reboot fsck.mode=force rd.systemd.unit=x", "rd.systemd.unit=x", ""},
		"words that look alike": {
			"rootless rooty=1 ipv6.disable=1 initcall_debug rdinit=/x roots resized=1",
			"rootless rooty=1 ipv6.disable=1 initcall_debug rdinit=/x roots resized=1", "",
		},
		"tabs, CRLF and blank lines": {"\r\n\ta\tb \r\n\r\n", "a b", ""},
		"second line":                {"a\nroot=/dev/sda b\n", "a", "first line"},
		"arguments of init":          {"a -- b root=/dev/sda", "a", `behind "--"`},
		"NUL":                        {"a\x00b", defaultWords, "control"},
		"escape sequence":            {"a \x1b[2J", defaultWords, "control"},
		"not UTF-8":                  {"a \xff", defaultWords, "UTF-8"},
		"open quote":                 {`a b="c`, defaultWords, "quote"},
		"a line of 5,000 bytes":      {strings.Repeat("a ", 2500), defaultWords, "bytes long"},
		"too long with ours":         {strings.Repeat("a", 1000), defaultWords, "left out"},
		"just fits": {
			strings.Repeat("a", MaxCmdline-len(ours)-1),
			strings.Repeat("a", MaxCmdline-len(ours)-1), "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			line, warnings, err := Cmdline([]byte(c.own), params)
			if err != nil {
				t.Fatal(err)
			}
			if want := c.want + " " + ours; line != want {
				t.Errorf("line\n%q, want\n%q", line, want)
			}
			if got := strings.Join(warnings, "; "); !strings.Contains(got, c.warn) || (c.warn == "") != (got == "") {
				t.Errorf("warnings %q, want one with %q", got, c.warn)
			}
		})
	}
}

func TestCmdlineParams(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*CmdlineParams)
		want   string // a part of the line
		err    string
	}{
		"port":              {func(p *CmdlineParams) { p.Port = 12049 }, ",acdirmax=600,port=12049 rw", ""},
		"usual port":        {func(p *CmdlineParams) { p.Port = 2049 }, ",acdirmax=600 rw", ""},
		"device's words":    {func(p *CmdlineParams) { p.Extra = []string{"quiet  loglevel=3", `x="a b"`} }, `rootwait quiet loglevel=3 x="a b"`, ""},
		"no server":         {func(p *CmdlineParams) { p.Server = netip.Addr{} }, "", "IPv4"},
		"IPv6":              {func(p *CmdlineParams) { p.Server = netip.MustParseAddr("::1") }, "", "IPv4"},
		"blank in the path": {func(p *CmdlineParams) { p.Path = "/a b" }, "", "export path"},
		"comma in the path": {func(p *CmdlineParams) { p.Path = "/a,soft" }, "", "export path"},
		"relative path":     {func(p *CmdlineParams) { p.Path = "a" }, "", "export path"},
		"newline":           {func(p *CmdlineParams) { p.Extra = []string{"a\nb"} }, "", "control"},
		"open quote":        {func(p *CmdlineParams) { p.Extra = []string{`a="b`} }, "", "quote"},
		"too many words":    {func(p *CmdlineParams) { p.Extra = []string{strings.Repeat("a ", 600)} }, "", "shorten"},
	} {
		t.Run(name, func(t *testing.T) {
			p := params
			c.change(&p)
			line, _, err := Cmdline([]byte("own"), p)
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v, want one with %q", err, c.err)
			case c.err == "" && (err != nil || !strings.Contains(line, c.want) || !strings.HasPrefix(line, "own ")):
				t.Errorf("%q, %v; want a part %q", line, err, c.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	const added = "\n# The lines below come from the boot server.\n[all]\n"
	for name, c := range map[string]struct {
		own   string
		lines []string
		want  string
		warn  int
	}{
		"nothing to add":      {"[pi4]\r\na=1", nil, "[pi4]\r\na=1", 0},
		"nothing at all":      {"", nil, added, 0},
		"lines":               {"[pi4]\na=1\n", []string{"dtparam=audio=off", "b=2"}, "[pi4]\na=1\n" + added + "dtparam=audio=off\nb=2\n", 0},
		"no newline at end":   {"a=1", []string{"b=2"}, "a=1\n" + added + "b=2\n", 0},
		"bytes stay":          {"\x00\xff\r\n\n\n", []string{"b=2"}, "\x00\xff\r\n\n\n" + added + "b=2\n", 0},
		"newline in a line":   {"a=1\n", []string{"b=2\nkernel=x", "c=3"}, "a=1\n" + added + "c=3\n", 1},
		"line gets cut":       {"a=1\n", []string{strings.Repeat("x", 99)}, "a=1\n" + added + strings.Repeat("x", 99) + "\n", 1},
		"include stays as is": {"include x.txt\n", []string{"b=2"}, "include x.txt\n" + added + "b=2\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			own := []byte(c.own)
			got, warnings := Config(own, c.lines)
			if string(got) != c.want || len(warnings) != c.warn {
				t.Errorf("%q, %q; want %q", got, warnings, c.want)
			}
			if string(own) != c.own {
				t.Error("changed the board's own bytes")
			}
		})
	}
}

// TestConfigTakesEffect shows that the device's lines count for every model,
// whatever section the board's own file ends in.
func TestConfigTakesEffect(t *testing.T) {
	for _, own := range []string{"[pi4]\nkernel=a", "[none]\n", "[EDID=x]\r\n[0x1]\r\n", "#"} {
		text, _ := Config([]byte(own), []string{"kernel=mine"})
		if s := ParseConfig(text, nil, pi3b); s.Kernel != "mine" {
			t.Errorf("after %q kernel = %q", own, s.Kernel)
		}
	}
}

func FuzzCmdline(f *testing.F) {
	for _, n := range []string{"raspios-bookworm", "raspios-trixie", "debian-bookworm"} {
		f.Add(readTestdata(f, n+".cmdline.txt"), "quiet")
	}
	f.Add([]byte("a\x00\" -- \"\n"), `x="y z" root=/dev/sda`)
	f.Fuzz(func(t *testing.T, own []byte, extra string) {
		p := params
		p.Extra = []string{extra}
		line, _, err := Cmdline(own, p)
		if err != nil {
			return
		}
		if len(line) > MaxCmdline || strings.ContainsFunc(line, isControl) {
			t.Fatalf("bad line %q", line)
		}
		// The kernel must find our root among its words, and no other before
		// the device's own.
		words, closed := splitWords(line)
		i := slices.Index(words, "root=/dev/nfs")
		if !closed || i < 0 || slices.Contains(words[:i], "--") || slices.ContainsFunc(words[:i], dropped) {
			t.Fatalf("words %q", words)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add(readTestdata(f, "raspios-bookworm.config.txt"), "dtparam=audio=off")
	f.Add([]byte("[pi4"), "kernel=x\n")
	f.Fuzz(func(t *testing.T, own []byte, line string) {
		text, _ := Config(own, []string{line})
		if !strings.HasPrefix(string(text), string(own)) || len(text) == 0 {
			t.Fatal("the board's own bytes are not there")
		}
	})
}
