package config

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"rubus/config/examples"
	"rubus/config/schema"
)

var update = flag.Bool("update", false, "write the messages of *.bad.yaml anew")

// parseFixture parses data as the file of its kind (a folder of testdata).
func parseFixture(kind, name string, data []byte) error {
	if kind == "devices" {
		_, err := Parse(File{}, File{Name: name, Data: data})
		return err
	}
	_, err := ParseDaemon(File{Name: name, Data: data})
	return err
}

// TestFixtures wants every *.good.yaml to load and every *.bad.yaml to be
// refused with exactly the messages in *.bad.txt. A schema may know less than
// the loader, never more.
func TestFixtures(t *testing.T) {
	schemas := map[string]*jsonschema.Schema{"devices": compile(t, schema.Devices()), "daemon": compile(t, schema.Daemon())}
	// What only the loader can know: relations between places of the file,
	// ranges of numbers, and the text of what YAML makes a number.
	beyondSchema := map[string]bool{
		"devices/noimage.bad.yaml": true, "devices/pi3-pair.bad.yaml": true, "devices/unknown-group.bad.yaml": true,
		"devices/serial-number.bad.yaml": true, "daemon/ports.bad.yaml": true,
		"daemon/any-address.bad.yaml": true, "devices/multicast.bad.yaml": true, "devices/two-documents.bad.yaml": true, "devices/identity-relations.bad.yaml": true,
		"daemon/kernel.bad.yaml": true, "daemon/dhcp-range.bad.yaml": true, "daemon/dhcp-ranges.bad.yaml": true,
	}
	for kind, sch := range schemas {
		files, err := filepath.Glob("testdata/" + kind + "/*.yaml")
		if err != nil || len(files) == 0 {
			t.Fatalf("no fixtures of %s: %v", kind, err)
		}
		for _, file := range files {
			name := filepath.Base(file)
			t.Run(kind+"/"+name, func(t *testing.T) {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				got := parseFixture(kind, name, data)
				good := strings.HasSuffix(name, ".good.yaml")
				checkMessages(t, strings.TrimSuffix(file, ".yaml")+".txt", good, got)
				var v any
				if yaml.Unmarshal(data, &v) != nil {
					return // no schema sees what is no YAML
				}
				serr := sch.Validate(v)
				switch {
				case good && serr != nil:
					t.Errorf("the schema refuses what the loader takes: %v", serr)
				case !good && (serr == nil) != beyondSchema[kind+"/"+name]:
					t.Errorf("the schema says %v; beyond it: %v", serr, beyondSchema[kind+"/"+name])
				}
			})
		}
	}
}

func checkMessages(t *testing.T, golden string, good bool, got error) {
	t.Helper()
	if good {
		if got != nil {
			t.Errorf("refused:\n%v", got)
		}
		return
	}
	if got == nil {
		t.Fatal("taken")
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got.Error()+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.Error()+"\n"); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func compile(t *testing.T, text string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestExamples wants the shipped examples to load and to fit their schemas,
// and the daemon's one to say what holds without it.
func TestExamples(t *testing.T) {
	s, err := Parse(File{"rubus.yaml", []byte(examples.Daemon())}, File{"devices.yaml", []byte(examples.Devices())})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(DefaultDaemon(), s.Daemon(), cmp.Comparer(func(a, b Listen) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("rubus.yaml differs from the defaults (-default +example):\n%s", diff)
	}
	for _, c := range []struct{ text, schema string }{
		{examples.Devices(), schema.Devices()},
		{examples.Daemon(), schema.Daemon()},
	} {
		var v any
		if err := yaml.Unmarshal([]byte(c.text), &v); err != nil {
			t.Fatal(err)
		}
		if err := compile(t, c.schema).Validate(v); err != nil {
			t.Error(err)
		}
	}
}

// TestSchemaKeys wants schema and loader to know the same keys.
func TestSchemaKeys(t *testing.T) {
	for _, c := range []struct {
		schema string
		at     []string
		keys   []string
	}{
		{schema.Devices(), nil, topKeys()},
		{schema.Devices(), []string{"$defs", "options"}, optionKeys()},
		{schema.Devices(), []string{"$defs", "device"}, DeviceKeys()},
		{schema.Daemon(), nil, daemonKeys()},
		{schema.Daemon(), []string{"properties", "tftp"}, tftpKeys()},
		{schema.Daemon(), []string{"properties", "dhcp"}, dhcpKeys()},
		{schema.Daemon(), []string{"$defs", "manner"}, mannerKeys()},
	} {
		var m map[string]any
		if err := yaml.Unmarshal([]byte(c.schema), &m); err != nil {
			t.Fatal(err)
		}
		for _, k := range append(c.at, "properties") {
			m = m[k].(map[string]any)
		}
		for _, k := range c.keys {
			if m[k] == nil {
				t.Errorf("%v: the schema lacks %q", c.at, k)
			}
		}
		if len(m) != len(c.keys) {
			t.Errorf("%v: the schema has %d keys, the loader %d", c.at, len(m), len(c.keys))
		}
	}
}
