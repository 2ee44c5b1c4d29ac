;; Tries: a function whose name would forge a line of a log, and colours of a terminal.
;; Ends: trap unreachable

(module
  (func (@name "x\n\1b[31mERROR skein: everything is lost\1b[0m\e2\80\ae") (export "_start") unreachable))
