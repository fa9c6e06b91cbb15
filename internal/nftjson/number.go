package nftjson

import "math/bits"

// number is what a register holds, as wide as an IPv6 address.
type number struct{ high, low uint64 }

func small(v uint64) number { return number{low: v} }

// bigEndian is the number in at most sixteen bytes.
func bigEndian(b []byte) number {
	var n number
	for _, c := range b {
		n = n.left(8)
		n.low |= uint64(c)
	}
	return n
}

// bytes are those of the number in network order.
func (n number) bytes(size int) []byte {
	b := make([]byte, size)
	for i := size - 1; i >= 0; i-- {
		b[i] = byte(n.low)
		n = n.right(8)
	}
	return b
}

func (n number) and(m number) number { return number{n.high & m.high, n.low & m.low} }
func (n number) or(m number) number  { return number{n.high | m.high, n.low | m.low} }
func (n number) xor(m number) number { return number{n.high ^ m.high, n.low ^ m.low} }
func (n number) zero() bool          { return n == number{} }

func (n number) left(by int) number {
	switch {
	case by >= 128:
		return number{}
	case by >= 64:
		return number{high: n.low << (by - 64)}
	}
	return number{n.high<<by | n.low>>(64-by), n.low << by}
}

func (n number) right(by int) number {
	switch {
	case by >= 128:
		return number{}
	case by >= 64:
		return number{low: n.high >> (by - 64)}
	}
	return number{n.high >> by, n.low>>by | n.high<<(64-by)}
}

func (n number) add(m number) number {
	low, carry := bits.Add64(n.low, m.low, 0)
	high, _ := bits.Add64(n.high, m.high, carry)
	return number{high, low}
}

func (n number) sub(m number) number {
	low, borrow := bits.Sub64(n.low, m.low, 0)
	high, _ := bits.Sub64(n.high, m.high, borrow)
	return number{high, low}
}

func (n number) compare(m number) int {
	switch {
	case n == m:
		return 0
	case n.high < m.high || n.high == m.high && n.low < m.low:
		return -1
	}
	return 1
}

// ones is a number of which the lowest bits are set.
func ones(width int) number {
	all := number{^uint64(0), ^uint64(0)}
	if width <= 0 {
		return number{}
	}
	return all.right(128 - width)
}

// lowestOne is the lowest bit from one on that is set; 128 if there is none.
func (n number) lowestOne(from int) int {
	n = n.right(from)
	switch {
	case n.low != 0:
		return from + bits.TrailingZeros64(n.low)
	case n.high != 0:
		return from + 64 + bits.TrailingZeros64(n.high)
	}
	return 128
}

// lowestZero is the lowest bit from one on that is not set.
func (n number) lowestZero(from int) int {
	return number{^n.high, ^n.low}.lowestOne(from)
}

func (n number) count() int { return bits.OnesCount64(n.high) + bits.OnesCount64(n.low) }

// swapped is the number with its bytes in the other order.
func (n number) swapped(size int) number {
	r := number{bits.ReverseBytes64(n.low), bits.ReverseBytes64(n.high)}
	return r.right(128 - 8*size)
}
