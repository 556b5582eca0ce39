// Types that no future is of, and what to use instead; see compile_fail_test.sh.

//! a future of absl::Status: use void, which fails with a Status
//! names absl::
Future<absl::Status> of_status;

//! a future of absl::StatusOr<U>: use U, which fails with a Status
Promise<absl::StatusOr<int>> of_status_or;

//! a future of std::exception_ptr: use void, or the type of the value
Try<std::exception_ptr> of_exception;

//! a future of std::exception_ptr: use void, or the type of the value
void aReadyFutureOfAnException() { makeReadyFuture(std::make_exception_ptr(5)).detach(); }

//! a future of Try<U>: use U
Future<Try<int>> of_try;

//! a future of a future of U: use U
Future<Future<int>> of_future;

//! a future of a future of U: use U
SemiFuture<SemiFuture<int>> of_semi_future;

//! a future of a reference: use a pointer, or a std::reference_wrapper
Future<int&> of_reference;

//! a future of a reference: use a pointer, or a std::reference_wrapper
Promise<const int&> of_const_reference;

//! a future of a const or volatile type: leave out const and volatile
Future<const Widget> of_const;

//! a future of a const or volatile type: leave out const and volatile
Promise<volatile int> of_volatile;

//! a future of an array: use a std::array, or a std::string
Try<int[3]> of_array;

//! a future of a function: use a pointer to it, or a std::function
Future<void(int)> of_function;

//! a future of a type with an alignment above 16: use a std::unique_ptr to it
struct alignas(32) OverAligned {};
Future<OverAligned> of_over_aligned;

//! a future of a type whose move may throw, or that does not move
//! names MayThrow
struct MayThrow {
  MayThrow(MayThrow&& other);
};
Promise<MayThrow> of_may_throw;

//! a future of a type whose move may throw, or that does not move
struct DoesNotMove {
  DoesNotMove(DoesNotMove&& other) = delete;
};
Future<DoesNotMove> of_does_not_move;
