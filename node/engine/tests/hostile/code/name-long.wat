;; Tries: an export whose name is a hundred thousand letters.
;; Ends: returns | refused "name"

(module
  (func (export "_start"))
  (func (export "{10000*0123456789}")))
