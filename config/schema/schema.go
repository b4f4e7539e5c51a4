package schema

import _ "embed"

//go:embed devices.schema.json
var devices string

//go:embed rubus.schema.json
var daemon string

// Devices is the schema of devices.yaml.
func Devices() string { return devices }

// Daemon is the schema of rubus.yaml.
func Daemon() string { return daemon }
