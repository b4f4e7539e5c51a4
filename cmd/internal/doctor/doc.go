// Package doctor looks at a host and its network before the first Pi: what is
// wrong, why that matters, and what to do.
package doctor
