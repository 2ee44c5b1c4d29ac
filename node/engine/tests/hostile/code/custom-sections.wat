;; Tries: thousands of custom sections, some that look like a toolchain's own.
;; Ends: returns

(module
  ;;* 5000
  (@custom "name" "\ff\ff\ff\ff\ff\ff")
  ;;* 1000
  (@custom "producers" "\80\80\80\80\80\80\80\80\80\80\80")
  (func (export "_start")))
