// Package device names boards: serial, MAC address and revision code.
package device
