package config

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"gopkg.in/yaml.v3"

	"rubus/config/boardtext"
)

// identity reads the keys of an identity that may stand at several places.
func (r *reader) identity(m map[string]*yaml.Node, what string, o *options) {
	if n := m["ssh_host_keys"]; n != nil {
		o.hostKeys = setting[hostKeys]{r.hostKeys(n, what+": ssh_host_keys", o.origin == "device"), true, n.Line}
	}
	if n := m["authorized_keys"]; n != nil {
		o.keys = r.authorizedKeys(n, what+": authorized_keys")
	}
	if n := m["files"]; n != nil {
		o.files = r.boardFiles(n, what+": files")
	}
	if n := m["vars"]; n != nil {
		o.vars = r.vars(n, what+": vars")
	}
}

func (r *reader) hostname(n *yaml.Node, what string) string {
	n, ok := r.word(n, what)
	if !ok {
		return ""
	}
	if len(n.Value) > maxHostname || slices.ContainsFunc(strings.Split(n.Value, "."), func(l string) bool { return !hostLabel.MatchString(l) }) {
		r.addf(n, "%s: %q is no host name: want letters, digits and - with dots between, at most %d", what, n.Value, maxHostname)
		return ""
	}
	return n.Value
}

// hostnameOf makes a host name of a name, which may have characters that one has not.
func hostnameOf(name string) string {
	var labels []string
	for _, l := range strings.Split(strings.ReplaceAll(name, "_", "-"), ".") {
		if l = strings.Trim(l, "-"); l != "" {
			labels = append(labels, l)
		}
	}
	return strings.Join(labels, ".")
}

func (r *reader) machineID(n *yaml.Node, what string) string {
	n, ok := r.text(n, what)
	if !ok {
		return ""
	}
	id := strings.ReplaceAll(strings.ToLower(n.Value), "-", "")
	if !machineID.MatchString(n.Value) || strings.Trim(id, "0") == "" {
		r.addf(n, "%s: want 32 hex digits, not all zero, as systemd-id128 new prints them", what)
		return ""
	}
	return id
}

// hostKeys reads generate, off, or files: of one device only, since no two boards may
// have the same.
func (r *reader) hostKeys(n *yaml.Node, what string, isDevice bool) (k hostKeys) {
	for _, w := range r.words(n, what, "") {
		switch v := w.Value; {
		case v == "generate" && len(k.files) == 0:
		case v == "off" && len(k.files) == 0:
			k.none = true
		case !strings.HasPrefix(v, "/"):
			r.addf(w, "%s: want generate, off, or files with private keys (/etc/rubus/...), not %q%s", what, v, DidYouMean(v, []string{"generate", "off"}))
		case !isDevice:
			r.addf(w, "%s: files may only stand at a device: no two boards may have the same host keys", what)
		default:
			k.files = append(k.files, r.serverFile(w, what))
		}
	}
	return k
}

// serverFile is the path of a file of the server.
func (r *reader) serverFile(n *yaml.Node, what string) string {
	if !strings.HasPrefix(n.Value, "/") || path.Clean(n.Value) != n.Value || strings.ContainsFunc(n.Value, isControl) {
		r.addf(n, "%s: %q: want the path of a file on this server, from / on", what, n.Value)
	}
	return n.Value
}

func (r *reader) authorizedKeys(n *yaml.Node, what string) (out []userKey) {
	for _, p := range r.pairs(n, what) {
		if !userName.MatchString(p.key) {
			r.addf(p.at, "%s: %q is no name of a user", what, p.key)
			continue
		}
		what := what + " of " + p.key
		for _, item := range r.items(p.node) {
			if k, ok := r.authorizedKey(item, what); ok {
				out = append(out, userKey{p.key, setting[AuthorizedKey]{k, true, item.Line}})
			}
		}
	}
	return out
}

// items are those of a list; one value is a list of one, and nothing is none.
func (r *reader) items(n *yaml.Node) []*yaml.Node {
	t := r.deref(n)
	switch {
	case t == nil || isNull(t):
		return nil
	case t.Kind == yaml.SequenceNode:
		return t.Content
	}
	return []*yaml.Node{n}
}

func (r *reader) authorizedKey(n *yaml.Node, what string) (AuthorizedKey, bool) {
	t := r.deref(n)
	if t == nil {
		return AuthorizedKey{}, false
	}
	if t.Kind == yaml.MappingNode {
		f := r.fields(t, what, []string{"file"}, nil)["file"]
		if f == nil {
			r.addf(t, "%s: want a key, or {file: FILE}", what)
			return AuthorizedKey{}, false
		}
		w, ok := r.word(f, what)
		if !ok {
			return AuthorizedKey{}, false
		}
		return AuthorizedKey{File: r.serverFile(w, what)}, true
	}
	w, ok := r.word(t, what)
	if !ok {
		return AuthorizedKey{}, false
	}
	line := strings.TrimSpace(w.Value)
	_, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(rest) > 0 || strings.ContainsFunc(line, isControl) {
		// Nothing of it is said again: it may be a private key.
		r.addf(w, "%s: this is no public key: want one line as in id_ed25519.pub", what)
		return AuthorizedKey{}, false
	}
	return AuthorizedKey{Line: line}, true
}

func (r *reader) vars(n *yaml.Node, what string) (out []variable) {
	for _, p := range r.pairs(n, what) {
		if !varName.MatchString(p.key) {
			r.addf(p.at, "%s: %q: want a name of letters, digits and _, as in {{.Vars.site}}", what, p.key)
			continue
		}
		t := r.deref(p.node)
		if t == nil {
			return out
		}
		if t.Kind != yaml.ScalarNode || isNull(t) {
			r.addf(t, "%s: %s: want one value, not %s", what, p.key, kindName(t))
			continue
		}
		out = append(out, variable{p.key, setting[string]{t.Value, true, t.Line}})
	}
	return out
}

func (r *reader) boardFiles(n *yaml.Node, what string) (out []setting[BoardFile]) {
	items := r.items(n)
	if len(items) > maxLines {
		r.addf(items[maxLines], "%s: more than %d files", what, maxLines)
		items = items[:maxLines]
	}
	for _, item := range items {
		f, ok := r.boardFile(item, what)
		if !ok {
			continue
		}
		if slices.ContainsFunc(out, func(s setting[BoardFile]) bool { return s.val.Path == f.Path }) {
			r.addf(item, "%s: %s stands twice", what, f.Path)
			continue
		}
		out = append(out, setting[BoardFile]{f, true, item.Line})
	}
	return out
}

func (r *reader) boardFile(n *yaml.Node, what string) (f BoardFile, ok bool) {
	had := len(r.problems)
	m := r.fields(n, what, fileKeys(), nil)
	p := m["path"]
	if p == nil {
		r.addf(n, "%s: a file without a path", what)
		return f, false
	}
	w, ok := r.word(p, what+": path")
	if !ok {
		return f, false
	}
	f.Path = w.Value
	what += ": " + f.Path
	if why := badBoardPath(f.Path); why != "" {
		r.addf(w, "%s: %s", what, why)
	}
	r.boardContent(n, m, what, &f)
	if f.Mode = 0o644; f.Secret {
		f.Mode = 0o600
	}
	if n := m["mode"]; n != nil {
		r.mode(n, what+": mode", &f)
	}
	if n := m["owner"]; n != nil {
		if w, ok := r.text(n, what+": owner"); ok && !ownerForm.MatchString(w.Value) {
			r.addf(w, "%s: owner %q: want user, user:group, or numbers", what, w.Value)
		} else if ok {
			f.Owner = w.Value
		}
	}
	return f, len(r.problems) == had
}

// badBoardPath says why no file can be given to a board at a path; "": it can.
func badBoardPath(p string) string {
	switch {
	case !strings.HasPrefix(p, "/") || path.Clean(p) != p || p == "/" || strings.ContainsFunc(p, isControl):
		return "want the path of a file on the board, from / on"
	case volatileDir.MatchString(p):
		return "the system makes this directory anew at each boot"
	case slices.ContainsFunc(strings.Split(p, "/"), func(s string) bool { return len(s) > 200 }):
		return "a name in it has more than 200 bytes"
	}
	return ""
}

// boardContent reads which of the keys says what is in a file.
func (r *reader) boardContent(n *yaml.Node, m map[string]*yaml.Node, what string, f *BoardFile) {
	count := 0
	for _, key := range []string{"content", "template", "from", "secret"} {
		v := m[key]
		if v == nil {
			continue
		}
		count++
		t := r.deref(v)
		if t == nil {
			return
		}
		if t.Kind != yaml.ScalarNode || isNull(t) || len(t.Value) > maxContent {
			r.addf(t, "%s: %s: want a text of at most %d bytes", what, key, maxContent)
			continue
		}
		switch key {
		case "content":
			f.Content = t.Value
		case "template":
			if f.Template = t.Value; t.Value == "" {
				continue // the same as no content
			}
			if _, err := boardtext.Parse(t.Value); err != nil {
				r.addf(t, "%s: %v", what, err)
			}
		default:
			f.From, f.Secret = r.serverFile(t, what+": "+key), key == "secret"
		}
	}
	if count != 1 {
		r.addf(n, "%s: want one of content, template, from (a file on this server) and secret (one that others may not read)", what)
	}
}

func (r *reader) mode(n *yaml.Node, what string, f *BoardFile) {
	w, ok := r.text(n, what)
	if !ok {
		return
	}
	mode, err := strconv.ParseUint(w.Value, 8, 16)
	switch {
	case err != nil || !modeForm.MatchString(w.Value):
		r.addf(w, "%s: want three octal digits such as 0644, not %q", what, w.Value)
	case f.Secret && mode&0o077 != 0:
		r.addf(w, "%s: %04o lets others read a secret: want 0600 or 0400", what, mode)
	default:
		f.Mode = fs.FileMode(mode)
	}
}
