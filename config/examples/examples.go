package examples

import _ "embed"

//go:embed devices.yaml
var devices string

//go:embed rubus.yaml
var daemon string

// Devices is a commented devices.yaml.
func Devices() string { return devices }

// Daemon is a commented rubus.yaml with the default of every key.
func Daemon() string { return daemon }
