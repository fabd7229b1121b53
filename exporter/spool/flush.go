package spool

// Column is one column of a block.
type Column struct {
	Name string // of the table's column
	Type string // in the server's words
	// Width is the octets of one value, 1 to 16, or 0 for a column that is all Head.
	Width int
	// Head is what stands before the values, such as a dictionary, or all of a column
	// whose values are of different lengths.
	Head []byte
	Data []byte // Width octets a row
}

// Block is rows of one table, as columns.
type Block struct {
	Table string
	// Part is where the table keeps the rows. An insert holds rows of one part, so that
	// the server takes all of it or nothing.
	Part uint32
	// Kept blocks stay when the others of their flush are given up: they say what it was.
	Kept    bool
	Rows    int // at most MaxRows
	Columns []Column

	// Spool is the random number of the spool, Sequence that of the block's flush in it, and
	// Reason why other blocks of the flush were given up. They are set when a block is read.
	Spool, Sequence uint64
	Reason          Reason
}

// Reason is why rows were given up.
type Reason uint8

// Reasons to give rows up.
const (
	None    Reason = iota
	Full           // there was no room for more
	Age            // they had waited too long
	Corrupt        // they could not be read back
	Refused        // the server will not have them
	numReasons
)

// String returns the reason as the ledger names it.
func (r Reason) String() string {
	return [...]string{"none", "full", "age", "corrupt", "refused"}[min(r, numReasons-1)]
}

// Flush is what is stored together, or not at all. It may be used again after Reset.
type Flush struct {
	blocks []packed
	bodies [][]byte // memory for more
}

// Add adds a block, of which it keeps nothing.
func (f *Flush) Add(b *Block) error {
	var body []byte
	if n := len(f.bodies); n > 0 {
		body, f.bodies = f.bodies[n-1][:0], f.bodies[:n-1]
	}
	p, err := pack(b, body)
	if err != nil {
		return err
	}
	f.blocks = append(f.blocks, p)
	return nil
}

// keptBodies bounds the memory that a Flush keeps for the next use: what a host of some
// 100,000 flows needs, but not what one flood of them did.
const keptBodies = 8

// Reset empties f.
func (f *Flush) Reset() {
	for i := range f.blocks {
		if len(f.bodies) < keptBodies {
			f.bodies = append(f.bodies, f.blocks[i].body)
		}
	}
	clear(f.blocks)
	f.blocks = f.blocks[:0]
}

// Empty reports whether there is nothing in f.
func (f *Flush) Empty() bool { return len(f.blocks) == 0 }
