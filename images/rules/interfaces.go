package rules

import (
	"path"
	"slices"
	"strings"
)

// interfaces takes out of an interfaces(5) of ifupdown the interfaces that have a password of a
// wireless network, whatever their stanzas: what would bring them up by their names finds none.
func interfaces(b []byte) (bool, secretFile) {
	var f secretFile
	secret := map[string]bool{}
	stanzas := stanzasOf(string(b))
	for _, s := range stanzas {
		if s.words[0] != "iface" || len(s.words) < 2 {
			continue
		}
		for _, o := range s.options {
			switch key := strings.ReplaceAll(o[0], "_", "-"); {
			case isInterfaceSecret(key) && o[1] != "" && o[1] != "off":
				secret[s.words[1]] = true
			case (key == "wpa-conf" || key == "wpa-roam") && path.IsAbs(o[1]):
				f.names = append(f.names, namedFile{o[1], supplicant})
			}
		}
	}
	var rest strings.Builder
	for _, s := range stanzas {
		switch {
		case s.words[0] == "iface" && len(s.words) > 1 && secret[s.words[1]]:
		case (s.words[0] == "auto" || strings.HasPrefix(s.words[0], "allow-")) && slices.ContainsFunc(s.words[1:], func(n string) bool { return secret[n] }):
			if others := slices.DeleteFunc(s.words, func(n string) bool { return secret[n] }); len(others) > 1 {
				rest.WriteString(strings.Join(others, " ") + "\n")
			}
		default:
			rest.WriteString(s.text)
		}
	}
	f.without, f.mode = []byte(rest.String()), 0o644
	return len(secret) > 0, f
}

// isInterfaceSecret knows the options of wpa_supplicant's and wireless-tools' scripts for ifupdown.
func isInterfaceSecret(key string) bool {
	if name, ok := strings.CutPrefix(key, "wpa-"); ok {
		return isSupplicantSecret(strings.ReplaceAll(name, "-", "_")) || name == "passphrase" || isWEPKey(name)
	}
	ok, _ := path.Match("wireless-key[1-4]", key)
	return ok || key == "wireless-key"
}

// stanza is a part of an interfaces(5): a line that begins one, with its words, and its options.
// Comments before the first are a stanza of one empty word.
type stanza struct {
	text    string
	words   []string
	options [][2]string
}

func stanzasOf(text string) []stanza {
	out := []stanza{{words: []string{""}}}
	logical, raw := "", ""
	for l := range strings.Lines(text) {
		raw += l
		bare := strings.TrimRight(l, "\r\n")
		if more, ok := strings.CutSuffix(bare, "\\"); ok {
			logical += more
			continue
		}
		logical += bare
		out = withLine(out, strings.TrimSpace(logical), raw)
		logical, raw = "", ""
	}
	return withLine(out, strings.TrimSpace(logical), raw) // the last one may end in a backslash
}

// withLine adds a line, which may have been several, to the last stanza or begins another.
func withLine(out []stanza, line, raw string) []stanza {
	words := strings.Fields(line)
	last := &out[len(out)-1]
	switch {
	case raw == "":
	case len(words) == 0 || strings.HasPrefix(line, "#"):
		last.text += raw
	case isStanza(words[0]):
		return append(out, stanza{text: raw, words: words})
	default:
		last.text += raw
		last.options = append(last.options, [2]string{words[0], strings.TrimSpace(strings.TrimPrefix(line, words[0]))})
	}
	return out
}

func isStanza(word string) bool {
	return strings.HasPrefix(word, "allow-") || slices.Contains([]string{"iface", "auto", "mapping", "source", "source-directory", "no-auto-down", "no-scripts", "rename", "template"}, word)
}
