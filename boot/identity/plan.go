package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"rubus/boot/rootfile"
	"rubus/config/boardtext"
)

// planner works out what a board is to have. It writes nothing.
type planner struct {
	Seed

	root, upper *rootfile.Root
	before      Given
	facts       boardtext.Facts

	targets   []target
	problems  []string
	made      map[string][]byte // files that are to come into the store
	failed    map[string]bool   // files that cannot be made now
	own       string            // the host name that the board took itself
	machineID string
	hostKeys  []string
	lines     map[string][]string
}

func (p *planner) problemf(format string, a ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, a...))
}

// plan fills targets. A root without /etc is no system's, and gets only what is listed.
func (p *planner) plan() error {
	p.failed, p.made = map[string]bool{}, map[string][]byte{}
	p.facts.Hostname = p.hostname()
	if p.isDir("/etc") {
		p.names()
		if err := p.machine(); err != nil {
			return err
		}
		if err := p.ssh(); err != nil {
			return err
		}
		p.users()
	}
	p.files()
	return nil
}

func (p *planner) isDir(path string) bool {
	info, err := p.root.Stat(path)
	return err == nil && info.Mode.IsDir()
}

// add adds a file of ours unless devices.yaml lists one at its path.
func (p *planner) add(t target) {
	if !slices.ContainsFunc(p.Wish.Files, func(f File) bool { return f.Path == t.Path }) {
		p.targets = append(p.targets, t)
	}
}

// names are the files with the host name.
func (p *planner) names() {
	p.add(target{File: rootfile.File{Path: hostnameFile, Data: []byte(p.facts.Hostname + "\n"), Mode: 0o644}})
	f := rootfile.File{Path: "/etc/hosts", Mode: 0o644}
	own, info, err := p.root.Read(f.Path, maxFile)
	switch {
	case err == nil:
		f.Mode, f.UID, f.GID = info.Mode.Perm(), info.UID, info.GID
	case errors.Is(err, fs.ErrNotExist):
		own = []byte("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	default:
		// A link, for one: somebody else makes it.
		return
	}
	f.Data = withHostname(own, p.facts.Hostname)
	p.add(target{File: f, shared: true})
}

// withHostname is /etc/hosts with a host name at 127.0.1.1, as Debian has it: without
// it sudo, for one, waits for name servers. All else in it is the board's.
func withHostname(hosts []byte, hostname string) []byte {
	const address = "127.0.1.1"
	line := address + "\t" + hostname
	if short, _, dotted := strings.Cut(hostname, "."); dotted {
		line += " " + short
	}
	var out []string
	done := false
	for l := range strings.Lines(string(hosts)) {
		l = strings.TrimSuffix(l, "\n")
		text, _, _ := strings.Cut(l, "#")
		if fields := strings.Fields(text); len(fields) > 0 && fields[0] == address && !done {
			done = true
			if len(fields) < 2 || fields[1] != hostname {
				l = line
			}
		}
		out = append(out, l)
	}
	if !done {
		out = append(out, line)
	}
	return []byte(strings.Join(out, "\n") + "\n")
}

// machine are the files with the machine id.
func (p *planner) machine() error {
	const file, dbus = "/etc/machine-id", "/var/lib/dbus/machine-id"
	id, err := p.Store.machineID()
	if err != nil {
		return err
	}
	if id == "" {
		own, _, _ := p.upper.Read(file, 128) // what is none is none to keep
		if id = strings.TrimSpace(string(own)); !IsMachineID(id) {
			id = newMachineID()
		}
		p.made[machineIDFile] = []byte(id + "\n")
	}
	if p.Wish.MachineID != "" {
		id = p.Wish.MachineID
	}
	p.machineID = id
	text := []byte(id + "\n")
	p.add(target{File: rootfile.File{Path: file, Data: text, Mode: 0o444}})
	// Mostly a link to the other.
	if info, err := p.root.Stat(dbus); err == nil && info.Mode.IsRegular() {
		p.add(target{File: rootfile.File{Path: dbus, Data: text, Mode: 0o444}})
	}
	return nil
}

// ssh are the host keys, where sshd looks for them.
func (p *planner) ssh() error {
	if p.Wish.NoHostKeys || !p.isDir("/etc/ssh") {
		return nil
	}
	keys, err := p.keys()
	if err != nil {
		return err
	}
	if len(keys) < len(p.Wish.HostKeys) {
		// Without the key that it is to have the board keeps what it has: a sshd with
		// none lets nobody in.
		for _, kind := range kinds() {
			p.failed[keyPath(kind)], p.failed[keyPath(kind)+".pub"] = true, true
		}
	}
	for _, k := range keys {
		name := keyPath(k.kind)
		p.add(target{File: rootfile.File{Path: name, Data: k.private, Mode: 0o600}, secret: true})
		p.add(target{File: rootfile.File{Path: name + ".pub", Data: k.publicLine("root@" + p.facts.Hostname), Mode: 0o644}})
		p.hostKeys = append(p.hostKeys, k.knownLine())
	}
	return nil
}

func (p *planner) keys() (keys []*hostKey, err error) {
	if len(p.Wish.HostKeys) > 0 {
		for _, name := range p.Wish.HostKeys {
			data, err := readReference(name, true)
			if err != nil {
				p.problemf("ssh host key: %v", err)
				continue
			}
			k, err := parseHostKey(data)
			if err != nil {
				p.problemf("ssh host key %s: %v", name, err)
				continue
			}
			keys = append(keys, k)
		}
		return keys, nil
	}
	for _, kind := range kinds() {
		had := p.ownKey(kind)
		if kind == kindRSA && had == nil && !p.wantsRSA() && !p.Store.has(kind) {
			continue
		}
		k, err := p.Store.hostKey(kind)
		if err == nil && k == nil {
			if k = had; k == nil {
				k, err = makeHostKey(kind)
			}
			if err == nil {
				p.made[storedKey(kind)] = k.private
			}
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// ownKey is a host key that the board has written; nil: none.
func (p *planner) ownKey(kind string) *hostKey {
	data, _, err := p.upper.Read(keyPath(kind), 64<<10)
	if err != nil {
		return nil
	}
	if k, err := parseHostKey(data); err == nil && k.kind == kind {
		return k
	}
	return nil
}

// wantsRSA says whether sshd is told to have an rsa key.
func (p *planner) wantsRSA() bool {
	text, _, _ := p.root.Read("/etc/ssh/sshd_config", maxFile) // none: it is not told
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 1 && strings.EqualFold(f[0], "HostKey") && f[1] == keyPath(kindRSA) {
			return true
		}
	}
	return false
}

// users are the keys of those who may log in.
func (p *planner) users() {
	p.lines = map[string][]string{}
	maps.Copy(p.lines, p.before.Lines)
	names := slices.Sorted(maps.Keys(p.Wish.Keys))
	for _, name := range slices.Sorted(maps.Keys(p.before.Lines)) {
		if p.Wish.Keys[name] == nil {
			names = append(names, name)
		}
	}
	for _, name := range names {
		t, err := p.user(name)
		if err != nil {
			p.problemf("authorized_keys of user %s: %v", name, err)
			continue
		}
		if t != nil {
			p.add(*t)
		}
	}
}

// user is the authorized_keys of one user: what the board has there, without what it
// was given earlier, and with what it is given now.
func (p *planner) user(name string) (*target, error) {
	now, errs := keyLines(p.Wish.Keys[name])
	for _, err := range errs {
		p.problemf("authorized_keys of user %s: %v", name, err)
	}
	u, err := p.root.User(name)
	if err != nil {
		if len(now) == 0 {
			return nil, nil // gone with its keys
		}
		return nil, err
	}
	if u.Home == "/" || path.Clean(u.Home) != u.Home {
		return nil, fmt.Errorf("%q is no home", u.Home)
	}
	dir := path.Join(u.Home, ".ssh")
	t := &target{
		File: rootfile.File{Path: path.Join(dir, "authorized_keys"), Mode: 0o600, UID: u.UID, GID: u.GID},
		dir:  &rootfile.File{Path: dir, Mode: 0o700, UID: u.UID, GID: u.GID},
	}
	own, _, err := p.root.Read(t.Path, maxFile)
	switch {
	case err == nil, errors.Is(err, rootfile.ErrNotRegular):
	case errors.Is(err, fs.ErrNotExist) && len(now) == 0:
		return nil, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	ever := p.before.Lines[name]
	gone := ever
	if len(errs) > 0 {
		gone = nil // which lines are to go nobody knows: an admin is not locked out
	}
	t.Data = withKeys(own, now, gone)
	p.lines[name] = remember(ever, now)
	return t, nil
}

// withKeys is authorized_keys with the lines of now, and without those that were given
// earlier: taking a key out of devices.yaml takes it from the board.
func withKeys(own []byte, now, ever []string) []byte {
	var out []string
	has := map[string]bool{}
	for l := range strings.Lines(string(own)) {
		l = strings.TrimSuffix(l, "\n")
		line := strings.TrimSpace(l)
		isOurs := slices.Contains(now, line)
		if !isOurs && slices.Contains(ever, digest([]byte(line))) || isOurs && has[line] {
			continue
		}
		has[line] = true
		out = append(out, l)
	}
	for _, line := range now {
		if !has[line] {
			has[line] = true
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return []byte(strings.Join(out, "\n") + "\n")
}

// remember adds lines to those that were ever given, the newest last.
func remember(ever, now []string) []string {
	out := slices.Clone(ever)
	for _, line := range now {
		d := digest([]byte(line))
		out = append(slices.DeleteFunc(out, func(x string) bool { return x == d }), d)
	}
	return out[max(0, len(out)-maxLines):]
}

// files are those that devices.yaml lists.
func (p *planner) files() {
	for _, f := range p.Wish.Files {
		t, err := p.file(f)
		if err != nil {
			p.failed[f.Path] = true
			p.problemf("file %s: %v", f.Path, err)
			continue
		}
		p.targets = append(p.targets, t)
	}
}

func (p *planner) file(f File) (t target, err error) {
	t = target{File: rootfile.File{Path: f.Path, Data: []byte(f.Content), Mode: f.Mode}, secret: f.Secret, listed: true}
	switch {
	case f.Template != nil:
		t.Data, err = f.Template.Render(p.facts)
	case f.From != "":
		t.Data, err = readReference(f.From, f.Secret)
	}
	if err != nil {
		return t, err
	}
	t.UID, t.GID, err = p.root.Owner(f.Owner)
	return t, err
}
