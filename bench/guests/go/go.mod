module bench.invalid/json

go 1.24
