package boardtext

import (
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	facts := Facts{
		Serial: "b8123456", Name: "bench-01", Hostname: "bench-01.lab", MAC: "b8:27:eb:12:34:56", Address: "10.0.0.7",
		Image: "lab@3", Group: "room1", Groups: []string{"room1", "pi4"}, Vars: map[string]string{"site": "north"},
	}
	for _, c := range []struct{ name, text, want, err string }{
		{"all", "{{.Serial}} {{.Name}} {{.Hostname}} {{.MAC}} {{.Address}} {{.Image}} {{.Group}} {{.Groups}} {{.Vars.site}}", "b8123456 bench-01 bench-01.lab b8:27:eb:12:34:56 10.0.0.7 lab@3 room1 [room1 pi4] north", ""},
		{"functions", `{{range .Groups}}{{printf "%q" .}}{{end}}{{if eq .Group "room1"}} yes{{end}}`, `"room1""pi4" yes`, ""},
		{"plain", "no braces\n", "no braces\n", ""},
		{"unknown field", "a\n{{.Seriel}}", "", `template:2:2: <.Seriel>: can't evaluate field Seriel among the facts of a board`},
		{"unknown var", "{{.Vars.room}}", "", `template:1:7: <.Vars.room>: map has no entry for key "room"`},
		{"not closed", "{{.Serial", "", "template:1: unclosed action"},
		{"unknown function", "{{upper .Name}}", "", `template:1: function "upper" not defined`},
		{"endless", `{{define "x"}}{{template "x"}}{{end}}{{template "x"}}`, "", "exceeded maximum template depth"},
		{"too long", `{{printf "%1048577d" 1}}`, "", errTooLong.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []byte
			tmpl, err := Parse(c.text)
			if err == nil {
				got, err = tmpl.Render(facts)
			}
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || string(got) != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func FuzzRender(f *testing.F) {
	f.Add("{{.Serial}}", "b8123456")
	f.Add("{{range $k, $v := .Vars}}{{$k}}{{end}}", "")
	f.Fuzz(func(t *testing.T, text, serial string) {
		if strings.Contains(text, "printf") || strings.Contains(text, "template") || strings.Contains(text, "range") {
			return // an admin may write what takes long
		}
		tmpl, err := Parse(text)
		if err != nil {
			return
		}
		out, err := tmpl.Render(Facts{Serial: serial})
		if err == nil && len(out) > MaxText {
			t.Errorf("%d bytes", len(out))
		}
	})
}
