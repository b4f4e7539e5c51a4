// Package sysdiff says how two root file systems differ as their admin sees it: packages, edited configuration, all other files.
package sysdiff
