package module

import "math"

// DefaultCaps returns the caps that ordinary guests of every supported
// toolchain pass: the largest of them were measured, and within the caps
// compilation stays below about 20 seconds and 1 GiB.
func DefaultCaps() Caps {
	return Caps{
		SizeBytes:    10 << 20,
		Types:        1000,
		Imports:      100,
		Globals:      1000,
		Exports:      200,
		Functions:    20_000,
		DataSegments: 100_000, // what the Go linker itself goes up to
		TableMin:     16_384,
		Elements:     65_536,
		MemoryBytes:  64 << 20,
		BodyBytes:    128 << 10,
		Locals:       1000,
		// Standard Go writes one br_table over all resume points of a function, inside as many blocks.
		BlockDepth:         1024,
		LoopDepth:          64,
		BlocksTimesLocals:  200_000,
		BlocksTimesLocalsM: 4_000_000,
		BranchTargets:      4096,
		BranchTargetsM:     262_144,
	}
}

// noCaps lets every size pass: only the module's form is checked.
func noCaps() Caps {
	const most = math.MaxInt
	return Caps{
		SizeBytes: most, Types: most, Imports: most, Globals: most, Exports: most, Functions: most,
		DataSegments: most, TableMin: most, Elements: most, MemoryBytes: most, BodyBytes: most, Locals: most,
		BlockDepth: most, LoopDepth: most, BlocksTimesLocals: most, BlocksTimesLocalsM: most,
		BranchTargets: most, BranchTargetsM: most,
	}
}

// Limits that no caller needs to change.
const (
	maxCustomSections = 1000
	maxManifestBytes  = 64 << 10
	maxParams         = 1000 // of one function type; the same for results
	maxNameBytes      = 4096 // of one import or export
	// maxBulkOperations of one function: each becomes a block of the metered function,
	// and the compiler takes time in the square of them: 2,000 a second, 20,000 minutes.
	maxBulkOperations = 2000
)
