;; Tries: four billion locals in a dozen bytes of code, written as a binary that no text can say.
;; Ends: refused "locals"

(module binary
  "\00asm\01\00\00\00"
  "\01\04\01\60\00\00"
  "\03\02\01\00"
  "\07\0a\01\06_start\00\00"
  "\0a\0b\01\09\01\ff\ff\ff\ff\0f\7f\0b\00")
