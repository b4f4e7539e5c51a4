// Package config reads rubus.yaml and devices.yaml into one immutable, validated Snapshot.
package config
