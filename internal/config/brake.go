package config

import "time"

// The values of Brake.Furthest.
const (
	BrakeBlock = "block"
	BrakeHold  = "hold"
	BrakeSlow  = "slow"
	BrakeOff   = "off"
)

// A Brake says what is too much of a registration, and what follows.
type Brake struct {
	Furthest        string // one of those above
	Volume          BrakeFactor
	Recipients      BrakeFactor
	SameBody        int // recipients of one text in a day
	Bounces, Spam   BrakePart
	HoldAt, BlockAt float64 // times too much
	StepAfter       time.Duration
	SlowEvery       time.Duration
	SlowFor         time.Duration
	BlockFor        time.Duration
}

// A BrakeFactor is a threshold over what is declared or usual.
type BrakeFactor struct{ Factor, Least int }

// A BrakePart is a threshold as a part of all.
type BrakePart struct {
	Part  float64
	Least int
}

// rawBrake is #Relay.brake as it is written.
type rawBrake struct {
	Furthest                                string
	Volume, Recipients                      BrakeFactor
	SameBody                                int
	Bounces, Spam                           BrakePart
	HoldAt, BlockAt                         float64
	StepAfter, SlowEvery, SlowFor, BlockFor string
}

func (d *document) brake(raw rawBrake) Brake {
	b := Brake{
		Furthest: raw.Furthest, Volume: raw.Volume, Recipients: raw.Recipients, SameBody: raw.SameBody,
		Bounces: raw.Bounces, Spam: raw.Spam, HoldAt: raw.HoldAt, BlockAt: raw.BlockAt,
		StepAfter: d.duration("brake.stepAfter", raw.StepAfter, time.Second, day),
		SlowEvery: d.duration("brake.slowEvery", raw.SlowEvery, time.Second, time.Hour),
		SlowFor:   d.duration("brake.slowFor", raw.SlowFor, time.Minute, 7*day),
		BlockFor:  d.duration("brake.blockFor", raw.BlockFor, time.Minute, 30*day),
	}
	if b.BlockAt < b.HoldAt && b.BlockAt > 0 {
		d.wrong("brake.blockAt", "brake.blockAt is smaller than brake.holdAt")
	}
	return b
}
