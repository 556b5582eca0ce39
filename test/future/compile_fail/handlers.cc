// Functions that then(), thenError() and ensure() do not take; see compile_fail_test.sh.

//! then(f): f takes neither the T of this Future<T> (nothing, for void) nor a Try<T>
//! names Widget
void anotherType(Future<Widget> future) {
  std::move(future).then([](const std::string&) {}).detach();
}

//! then(f): f takes neither the T of this Future<T>
//! names Widget
void theTryOfAnotherType(Future<Widget> future) {
  std::move(future).then([](Try<int>) {}).detach();
}

//! then(f): f takes neither the T of this Future<T>
//! names Widget
void nothingWhereThereIsAValue(Future<Widget> future) {
  std::move(future).then([] {}).detach();
}

//! then(f): f takes neither the T of this Future<T>
void aValueWhereThereIsNone(Future<void> future) {
  std::move(future).then([](int) {}).detach();
}

//! then(f): f takes neither the T of this Future<T>
//! names Widget
void anLvalueReference(Future<Widget> future) {
  std::move(future).then([](Widget&) {}).detach();
}

//! then(f): f takes neither the T of this Future<T>
void anLvalueReferenceToATry(Future<int> future) {
  std::move(future).then([](Try<int>&) {}).detach();
}

//! then(f): f takes neither the T of this Future<T>
void anotherTypeBehindBindFront(Future<int> future) {
  std::move(future).then(std::bind_front([](int, const std::string&) {}, 1)).detach();
}

//! then(f): what a std::bind expression takes cannot be told: give a lambda, or std::bind_front
void aBindExpression(Future<int> future) {
  std::move(future).then(std::bind([](int, Try<int>) {}, 1, std::placeholders::_1)).detach();
}

//! then(f): what a std::bind expression takes cannot be told
void aBindExpressionWithAResult(Future<int> future) {
  std::move(future).then(std::bind<void>([](Try<int>) {}, std::placeholders::_1)).detach();
}

//! then(f): what a std::bind expression takes cannot be told
void aBindExpressionBehindAGuardAndARef(Future<int> future, const LifetimeGuard& guard) {
  auto guarded = guard.wrap(std::bind([](Try<int>) {}, std::placeholders::_1));
  std::move(future).then(std::ref(guarded)).detach();
}

//! then(f): a member function needs an object: then(&Class::method, pointer)
void aMemberFunctionWithoutItsObject(Future<Widget> future) { std::move(future).then(&Widget::size).detach(); }

//! then(&Class::method, object): object is a pointer, smart or not
void aMemberFunctionWithoutAPointer(Future<int> future, Widget widget) {
  std::move(future).then(&Widget::resize, widget).detach();
}

//! thenError(f): f takes an absl::Status
void thenErrorOfAnotherType(Future<int> future) {
  std::move(future).thenError([](int) { return 1; }).detach();
}

//! thenError<E>(f): f takes an E&
void thenErrorOfAnotherException(Future<int> future) {
  std::move(future).thenError<std::logic_error>([](std::runtime_error&) { return 1; }).detach();
}

//! ensure(f): f takes nothing
void ensureOfAValue(Future<int> future) {
  std::move(future).ensure([](int) {}).detach();
}
