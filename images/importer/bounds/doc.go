// Package bounds keeps an import from taking more space, files or words than it may.
package bounds
