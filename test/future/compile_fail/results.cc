// What functions, promises and coroutines cannot make a result of; see compile_fail_test.sh.

//! what the function returns makes no result of this future
//! names std::unique_ptr<Widget
void aPointerForAnOwner(Future<std::unique_ptr<Widget>> future) {
  std::move(future).thenError([](const absl::Status&) { return new Widget; }).detach();
}

//! what the function returns makes no result of this future
void aNumberForAVector(Future<std::vector<int>> future) {
  std::move(future).thenError([](const absl::Status&) { return 5; }).detach();
}

//! what the function returns makes no result of this future
void nothingForAValue(Future<int> future) {
  std::move(future).thenError([](const absl::Status&) {}).detach();
}

//! what the function returns makes no result of this future
void aValueForVoid(Future<void> future) {
  std::move(future).thenError<std::logic_error>([](const std::logic_error&) { return 5; }).detach();
}

//! the function returns a future of another type
void aFutureOfAnotherType(Future<long> future) {
  std::move(future).thenError([](const absl::Status&) { return makeReadyFuture(5); }).detach();
}

//! ensure(f): f returns nothing, an absl::Status, a Try<void>, or a future of void
void aValueOfEnsure(Future<int> future) {
  std::move(future).ensure([] { return 5; }).detach();
}

//! ensure(f): f returns nothing, an absl::Status, a Try<void>, or a future of void
void aFutureOfEnsure(Future<int> future) {
  std::move(future).ensure([] { return makeReadyFuture(5); }).detach();
}

//! setValue(value): the value is no T of the Promise<T>, and does not convert to one implicitly
void setValueOfAPointer(Promise<std::unique_ptr<Widget>> promise) { promise.setValue(new Widget); }

//! what the function returns makes no result of this future
void setWithAPointer(Promise<std::unique_ptr<Widget>> promise) {
  promise.setWith([] { return new Widget; });
}

//! co_return: this makes no result of the coroutine's Future<T>
Future<std::vector<int>> coReturnOfANumber() {
  co_await yield();
  co_return 5;
}

//! makeReadyFuture() of what is a future already
void aReadyFutureOfAFuture(Future<int> future) { makeReadyFuture(std::move(future)).detach(); }

//! makeFailedFuture<T>(failure) takes an absl::Status, or a std::exception_ptr
void aFailureOfAnExceptionObject() { makeFailedFuture<int>(std::runtime_error("no")).detach(); }
