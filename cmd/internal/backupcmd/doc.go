// Package backupcmd is "rubus backup" and "rubus restore".
package backupcmd
