// Package devicecmd has the verbs of "rubus device".
package devicecmd
