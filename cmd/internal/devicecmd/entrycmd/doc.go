// Package entrycmd has the verbs of "rubus device" that change the devices of devices.yaml.
package entrycmd
