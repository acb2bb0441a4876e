// Package bench measures the daemon against the raw limit in the same run:
//
//	go test -bench . ./conformance/bench
//
// Every figure that matters is a ratio to raw sign plus verify with the same
// sessions on the same machine, taken as medians of interleaved rounds, since
// single figures move with the machine. The table is kept in README.md.
package bench
